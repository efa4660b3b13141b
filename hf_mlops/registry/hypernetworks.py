"""What of a registered hypernetwork needs torch: to register one, to have it in torch, and start weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from jaxtyping import Float
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType
from torch import Tensor

import hf_mlops
from hf_mlops.audit.reference import Reference
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest
from hf_mlops.export.hypernetwork import to_onnx_hypernetwork
from hf_mlops.export.weights import read_weights
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.population.target import Target
from hf_mlops.registry import pyfunc
from hf_mlops.registry.lineage import told_by
from hf_mlops.registry.models import Champion, champion_of, classifier_of, pins
from hf_mlops.registry.names import CHALLENGER, CHAMPION, FILE, FORGET, HYPERFORGET, STANDING, WEIGHTS
from hf_mlops.registry.request import LOSSES, OPTIONS, OUTPUT, OUTPUTS, WHOLE_NUMBERS
from hf_mlops.registry.runs import say_what_is_stored
from hf_mlops.registry.sealed import log
from hf_mlops.registry.store import is_missing
from hf_mlops.registry.versions import Subject, model_for, refuse_again, refuse_withdrawn, register, version_named

# what a registered hypernetwork needs; it carries hf_mlops itself
RUN_TIME = (
    *("mlflow-skinny", "numpy", "pandas", "onnx", "onnxruntime", "safetensors", "array-api-compat", "lazy-loader", "jaxtyping"),
)

# It tells what is asked for and answered; what a request may hold is for request.py to say, and MLflow is to let it through:
# lists of specs have no column, and a client may write a whole number as 4.0.
HYPERFORGET_SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, FORGET, required=False),
            *(ColSpec(AnyType(), option, required=False) for option in OPTIONS),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "forget"),
            ColSpec(DataType.long, "sample"),
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.double, "retain_loss"),
            ColSpec(DataType.double, "forget_loss", required=False),
            ColSpec(DataType.binary, "weights", required=False),
            ColSpec(DataType.binary, "onnx", required=False),
        ]
    ),
    params=ParamSchema(
        [
            *(ParamSpec(name, DataType.double, default) for name, (default, _) in WHOLE_NUMBERS.items()),
            *(ParamSpec(name, DataType.double, None) for name in LOSSES),
            ParamSpec(OUTPUT, DataType.string, OUTPUTS[0]),
        ]
    ),
)


def register_hypernetwork(
    hypernetwork: Hypernetwork,
    reference: Reference,
    class_names: Sequence[str],
    folder: Path,
    tags: dict[str, str],
    description: str,
) -> ModelVersion:
    """Logs the hypernetwork, self-contained, to the active run and makes it the champion of its subject, or its challenger if
    there is a champion.

    Args:
        class_names: what the logits of its classifiers mean.
        folder: an empty place on disk to gather the model's files in.
        description: its lineage is added.

    Raises:
        BadRequest: the very same one was withdrawn.
    """
    subject = Subject.trained_on(hypernetwork.made_from, hypernetwork.target.architecture, hypernetwork.target.scope)
    name = model_for(subject)
    hypernetwork.save(folder)
    digest = sha256(folder / "hypernetwork.safetensors")
    refuse_again(WEIGHTS, digest)
    reference.save(folder)
    run = mlflow.active_run()
    to_onnx_hypernetwork(hypernetwork, class_names, run.info.run_id if run else "").save(folder)
    say_what_is_stored("hypernetwork", folder)
    info, sealed = log(HYPERFORGET, mlflow.pyfunc.save_model, **as_pyfunc(folder, hypernetwork.groups.names))
    standing = CHAMPION if champion_of(name) is None else CHALLENGER
    about = {**subject.tags, WEIGHTS: digest, **sealed, STANDING: standing, **tags}
    comes_from = told_by(about, name, info.run_id).in_markdown()
    return register(info, name, standing, about, f"{description}\n\n{comes_from}")


def as_pyfunc(folder: Path, group_names: Sequence[str]) -> dict[str, Any]:
    """How MLflow is to keep a hypernetwork whose files are in a folder: options of `mlflow.pyfunc.save_model`."""
    return {
        "python_model": pyfunc.__file__,
        "artifacts": {"hypernetwork": str(folder)},
        "code_paths": [str(Path(hf_mlops.__file__).parent)],
        "signature": HYPERFORGET_SIGNATURE,
        "input_example": input_example(group_names),
        "pip_requirements": pins(*RUN_TIME),
    }


def input_example(group_names: Sequence[str]) -> pd.DataFrame:
    """Rows that any number of groups from 2 on can be asked for: one, up to two others, none."""
    return pd.DataFrame({FORGET: [group_names[-1], ",".join(group_names[:-1][:2]), ""]})


def in_torch(champion: Champion) -> tuple[Hypernetwork, Reference]:
    """A registered hypernetwork and its reference for what needs torch."""
    return Hypernetwork.load(champion.folder), champion.reference.each(torch.from_numpy)


def load_start(source: str, target: Target) -> Float[Tensor, " params"]:
    """Weights of the classifier that samples are to stay near.

    Args:
        source: a file (.onnx or .safetensors), or the `models:/` URI of a registered ONNX classifier.

    Raises:
        BadRequest: nothing there, another architecture, or a classifier that was withdrawn.
        DamagedArtifact: a classifier of this package that is not what was audited.
    """
    file = Path(source)
    if source.startswith("models:/"):
        try:
            version = version_named(source)
            if version is not None:
                refuse_withdrawn(version, "allowed: another classifier to stay near")
            if version is not None and FILE in version.tags:
                classifier_of(version)
            file = Path(mlflow.artifacts.download_artifacts(source)) / "model.onnx"
        except MlflowException as error:
            if not is_missing(error):
                raise
            raise BadRequest(f"start = {source!r} cannot be had: {error.message}") from error
    return read_weights(file, target)
