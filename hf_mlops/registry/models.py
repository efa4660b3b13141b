"""Registered models: the hypernetwork and the classifiers sampled from it. An alias moves only to a version that is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from jaxtyping import Float
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from torch import Tensor

import hf_mlops
from hf_mlops.audit.reference import Reference
from hf_mlops.base.errors import BadRequest
from hf_mlops.export.weights import onnx_template, read_weights
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.population.target import Target
from hf_mlops.registry import flavour, pyfunc
from hf_mlops.registry.names import CHAMPION, CLASSIFIER, HYPERFORGET, alias_of
from hf_mlops.registry.request import FORGET, LOSSES, WHOLE
from hf_mlops.serving.classifier import INPUT, OUTPUT, OnnxClassifier

# what a registered hypernetwork needs; it carries hf_mlops itself
RUN_TIME = ("mlflow", "torch", "safetensors", "numpy", "pandas", "onnx", "onnxruntime", "tqdm", "lazy-loader", "jaxtyping")

# It tells what is asked for and answered; what a request may hold is for request.py to say, and MLflow is to let it through:
# lists of specs have no column, and a client may write a whole number as 4.0.
HYPERFORGET_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, FORGET, required=False)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "forget"),
            ColSpec(DataType.long, "sample"),
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.double, "retain_loss"),
            ColSpec(DataType.double, "forget_loss", required=False),
            ColSpec(DataType.binary, "weights"),
        ]
    ),
    params=ParamSchema(
        [
            *(ParamSpec(name, DataType.double, default) for name, (default, _) in WHOLE.items()),
            *(ParamSpec(name, DataType.double, None) for name in LOSSES),
        ]
    ),
)


@dataclass(frozen=True)
class Champion:
    """The hypernetwork in production.

    Args:
        hypernetwork: what it samples with.
        reference: the retrain reference that its samples are judged against.
        template: of its classifiers in ONNX, from `onnx_template`.
        version: as it is registered.
    """

    hypernetwork: Hypernetwork
    reference: Reference
    template: OnnxClassifier
    version: ModelVersion

    def __str__(self) -> str:
        """Name and version: `hyperforget/3`."""
        return f"{HYPERFORGET}/{self.version.version}"


def load_start(source: str, target: Target) -> Float[Tensor, " params"]:
    """Weights of the classifier that samples are to stay near.

    Args:
        source: a file (.onnx or .safetensors), or the `models:/` URI of a registered ONNX classifier.

    Raises:
        BadRequest: nothing there, or another architecture.
    """
    file = Path(source)
    if source.startswith("models:/"):
        try:
            file = Path(mlflow.artifacts.download_artifacts(source)) / "model.onnx"
        except MlflowException as error:
            raise BadRequest(f"start = {source!r} cannot be had: {error.message}") from error
    return read_weights(file, target)


def _pins(*packages: str) -> list[str]:
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def _register(logged: ModelInfo, name: str, alias: str, tags: dict[str, str], description: str) -> ModelVersion:
    """Registers a logged model of the active run and moves an alias to it, or leaves the registry as it was."""
    client = mlflow.MlflowClient()
    existed = bool(client.search_registered_models(f"name = '{name}'"))
    before = {version.version for version in client.search_model_versions(f"name = '{name}'")}
    try:
        version = mlflow.register_model(logged.model_uri, name, tags=tags)
        client.update_model_version(name, version.version, description)
        client.set_registered_model_alias(name, alias, version.version)
        return version
    except BaseException:
        for made in client.search_model_versions(f"name = '{name}'"):
            if made.version not in before and made.run_id == logged.run_id:
                client.delete_model_version(name, made.version)
        if not existed and client.search_registered_models(f"name = '{name}'"):
            client.delete_registered_model(name)
        raise


def register_hypernetwork(
    hypernetwork: Hypernetwork, reference: Reference, folder: Path, tags: dict[str, str], description: str
) -> ModelVersion:
    """Logs the hypernetwork, self-contained, to the active run and makes it the champion.

    Args:
        folder: an empty place on disk to gather the model's files in.
    """
    hypernetwork.save(folder)
    reference.save(folder)
    (folder / "template.onnx").write_bytes(onnx_template(hypernetwork.target).data)
    info = mlflow.pyfunc.log_model(
        name=HYPERFORGET,
        python_model=pyfunc.__file__,
        artifacts={"hypernetwork": str(folder)},
        code_paths=[str(Path(hf_mlops.__file__).parent)],
        signature=HYPERFORGET_SIGNATURE,
        input_example=input_example(hypernetwork.groups.names),
        pip_requirements=_pins(*RUN_TIME),
    )
    return _register(info, HYPERFORGET, CHAMPION, tags, description)


def input_example(group_names: Sequence[str]) -> pd.DataFrame:
    """Rows that any number of groups from 2 on can be asked for: one, up to two others, none."""
    return pd.DataFrame({FORGET: [group_names[-1], ",".join(group_names[:-1][:2]), ""]})


def load_champion() -> Champion:
    """The hypernetwork in production.

    Raises:
        BadRequest: there is none; says which command makes one.
    """
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(HYPERFORGET, CHAMPION)
    except MlflowException as error:
        raise BadRequest(
            f"the registry at {mlflow.get_registry_uri()} has no model models:/{HYPERFORGET}@{CHAMPION}:"
            " run `mlflow run . -e targets` and `mlflow run . -e hypernet` first, or `mlflow run .` for the whole path"
        ) from error
    model = mlflow.pyfunc.load_model(f"models:/{HYPERFORGET}/{version.version}").unwrap_python_model()
    return Champion(model.hypernetwork, model.reference, model.template, version)


def register_classifier(
    classifier: OnnxClassifier, slug: str, tags: dict[str, Any], description: str
) -> tuple[ModelVersion, Path]:
    """Logs a checked ONNX classifier to the active run, registers it and moves the alias of its forget spec to it.

    Returns:
        the version, and the ONNX file on this machine.
    """
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *classifier.input_shape), INPUT)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classifier.classes), OUTPUT)]),
    )
    info = Model.log(
        None,
        flavour,
        name=CLASSIFIER,
        onnx_model=classifier.model,
        signature=signature,
        input_example={INPUT: np.zeros((1, *classifier.input_shape), np.float32)},
        pip_requirements=_pins("mlflow", "onnx", "onnxruntime", "numpy"),
    )
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in tags.items()}
    version = _register(info, CLASSIFIER, alias_of(slug), text, description)
    return version, classifier_file(version)


def find_classifier(slug: str) -> ModelVersion:
    """The registered classifier that serves a forget spec.

    Raises:
        BadRequest: there is none; says which command makes one.
    """
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(CLASSIFIER, alias_of(slug))
    except MlflowException as error:
        raise BadRequest(
            f"the registry at {mlflow.get_registry_uri()} has no model models:/{CLASSIFIER}@{alias_of(slug)}:"
            " run `mlflow run . -e forget` for that forget spec first"
        ) from error


def promote_again(name: str, alias: str, version: str | None) -> bool:
    """Points an alias at a version that passed its gates before; False if that version is no longer there."""
    client = mlflow.MlflowClient()
    if version is None or not client.search_model_versions(f"name = '{name}' and version_number = {version}"):
        return False
    client.set_registered_model_alias(name, alias, version)
    return True


def classifier_file(version: ModelVersion) -> Path:
    """The ONNX file of a registered classifier, on this machine."""
    return Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}")) / "model.onnx"
