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
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from torch import Tensor

import hf_mlops
from hf_mlops.audit.reference import Reference
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.base.spec import ForgetSpec, slug_of
from hf_mlops.export.weights import onnx_template, read_weights
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.population.target import Target
from hf_mlops.registry import flavour, pyfunc
from hf_mlops.registry.lineage import origin, told_by
from hf_mlops.registry.names import CHALLENGER, CHAMPION, CLASSIFIER, FILE, FORGET, HYPERFORGET, STANDING, WEIGHTS, alias_of
from hf_mlops.registry.request import LOSSES, WHOLE_NUMBERS
from hf_mlops.registry.runs import say_what_is_stored
from hf_mlops.registry.store import is_missing
from hf_mlops.registry.versions import (
    Subject,
    belongs,
    classifier_name,
    model_for,
    refuse_again,
    refuse_withdrawn,
    register,
    still_there,
    subject_of,
    version_at,
    version_named,
)
from hf_mlops.serving.classifier import INPUT, OUTPUT, OnnxClassifier

# what a registered hypernetwork needs; it carries hf_mlops itself
RUN_TIME = ("mlflow", "torch", "safetensors", "numpy", "pandas", "onnx", "onnxruntime", "tqdm", "lazy-loader", "jaxtyping")

ANOTHER_CHAMPION = "run `mlflow run . -e targets` and `mlflow run . -e hypernet` first, or `mlflow run .` for the whole path"

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
            *(ParamSpec(name, DataType.double, default) for name, (default, _) in WHOLE_NUMBERS.items()),
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

    @property
    def identity(self) -> dict[str, str]:
        """What it is to whatever is made with it: the run that made it, and the kind of device that it samples on."""
        return {"champion": self.version.run_id or "", "device": self.hypernetwork.device.type}

    def __str__(self) -> str:
        """Name and version: `hyperforget/3`."""
        return f"{self.version.name}/{self.version.version}"


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


def _pins(*packages: str) -> list[str]:
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def _subject(hypernetwork: Hypernetwork) -> Subject:
    made_from, target = hypernetwork.made_from, hypernetwork.target
    return Subject(made_from["name"], made_from["digest"], target.architecture, target.scope, made_from["grouping"])


def register_hypernetwork(
    hypernetwork: Hypernetwork, reference: Reference, folder: Path, tags: dict[str, str], description: str
) -> ModelVersion:
    """Logs the hypernetwork, self-contained, to the active run and makes it the champion of its subject, or its challenger if
    there is a champion.

    Args:
        folder: an empty place on disk to gather the model's files in.
        description: its lineage is added.

    Raises:
        BadRequest: the very same one was withdrawn.
    """
    subject = _subject(hypernetwork)
    name = model_for(subject)
    hypernetwork.save(folder)
    digest = sha256(folder / "hypernetwork.safetensors")
    refuse_again(WEIGHTS, digest)
    reference.save(folder)
    (folder / "template.onnx").write_bytes(onnx_template(hypernetwork.target).data)
    say_what_is_stored("hypernetwork", folder)
    info = mlflow.pyfunc.log_model(
        name=HYPERFORGET,
        python_model=pyfunc.__file__,
        artifacts={"hypernetwork": str(folder)},
        code_paths=[str(Path(hf_mlops.__file__).parent)],
        signature=HYPERFORGET_SIGNATURE,
        input_example=input_example(hypernetwork.groups.names),
        pip_requirements=_pins(*RUN_TIME),
    )
    standing = CHAMPION if champion_of(name) is None else CHALLENGER
    about = {**subject.tags, WEIGHTS: digest, STANDING: standing, **tags}
    comes_from = told_by(about, name, info.run_id).in_markdown()
    return register(info, name, standing, about, f"{description}\n\n{comes_from}")


def input_example(group_names: Sequence[str]) -> pd.DataFrame:
    """Rows that any number of groups from 2 on can be asked for: one, up to two others, none."""
    return pd.DataFrame({FORGET: [group_names[-1], ",".join(group_names[:-1][:2]), ""]})


def load_champion(name: str = HYPERFORGET) -> Champion:
    """The hypernetwork in production.

    Args:
        name: of the registered model.

    Raises:
        BadRequest: there is none; says which command makes one.
    """
    return load_hypernetwork(version_at(name, CHAMPION, ANOTHER_CHAMPION))


def champion_of(name: str) -> ModelVersion | None:
    """The version of a registered hypernetwork that is champion; None: there is none."""
    number = mlflow.MlflowClient().get_registered_model(name).aliases.get(CHAMPION)
    return still_there(f"{name}/{number}") if number else None


def load_challenger(name: str = HYPERFORGET) -> Champion:
    """The hypernetwork that may take the champion's place.

    Raises:
        BadRequest: there is none; says which command makes one.
    """
    return load_hypernetwork(version_at(name, CHALLENGER, "run `mlflow run . -e hypernet` first, while there is a champion"))


def make_champion(challenger: ModelVersion) -> None:
    """Moves `champion` to a version; it is no challenger any more.

    Raises:
        BadRequest: it has been withdrawn since.
    """
    client, name = mlflow.MlflowClient(), challenger.name
    refuse_withdrawn(client.get_model_version(name, challenger.version))
    client.set_model_version_tag(name, challenger.version, STANDING, CHAMPION)
    client.set_registered_model_alias(name, CHAMPION, challenger.version)
    if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == str(challenger.version):
        client.delete_registered_model_alias(name, CHALLENGER)


def load_hypernetwork(version: ModelVersion) -> Champion:
    """A registered hypernetwork, whether or not it is the one in production.

    Raises:
        BadRequest: it was withdrawn.
    """
    refuse_withdrawn(version, ANOTHER_CHAMPION)
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}").unwrap_python_model()
    return Champion(model.hypernetwork, model.reference, model.template, version)


def register_classifier(
    classifier: OnnxClassifier, champion: Champion, spec: ForgetSpec, tags: dict[str, Any], description: str
) -> ModelVersion:
    """Logs a checked ONNX classifier to the active run, registers it and moves the alias of its forget spec to it.

    Args:
        champion: what it was sampled from, whose subject is the classifier's.
        tags: its evidence; added are the spec, the subject, its lineage and the digests of weights and file.
        description: its lineage is added.

    Raises:
        BadRequest: the registered model of that name has classifiers of another subject; or a classifier of the very same
            weights was withdrawn, or the hypernetwork was while this was at work.
    """
    refuse_again(WEIGHTS, classifier.digest)
    if (now := still_there(str(champion))) is not None:
        refuse_withdrawn(now, ANOTHER_CHAMPION)
    name, subject = classifier_name(champion.version.name), _subject(champion.hypernetwork)
    if not belongs(name, subject):
        raise BadRequest(f"the registered model {name} is of other data or another network than {subject}")
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
    about = {**subject.tags, FORGET: str(spec), WEIGHTS: classifier.digest, FILE: classifier.file_digest}
    about |= origin(champion.version) | tags
    text = {tag: value if isinstance(value, str) else json.dumps(value) for tag, value in about.items()}
    comes_from = told_by(text, name, info.run_id).in_markdown()
    return register(info, name, alias_of(spec.slug), text, f"{description}\n\n{comes_from}")


def find_classifier(forget: str, hypernetwork: str = HYPERFORGET) -> ModelVersion:
    """The registered classifier that serves a forget spec.

    Args:
        forget: names of groups, joined by commas.
        hypernetwork: the registered model of what it was sampled from.

    Raises:
        BadRequest: there is none; says which command makes one.
        DamagedArtifact: the alias is on the classifier of another spec.
    """
    slug = slug_of(forget.split(","))
    name, alias = classifier_name(hypernetwork), alias_of(slug)
    version = version_at(name, alias, "run `mlflow run . -e forget` for that forget spec first")
    found, of = version.tags.get(FORGET, ""), mlflow.MlflowClient().get_registered_model(name).tags
    if slug_of(found.split(",")) != slug or not subject_of(of).is_that_of(version.tags):
        raise DamagedArtifact(
            f"models:/{name}@{alias} is not the classifier of {forget!r} and of this model's data: its tags say {found!r} and"
            f" {subject_of(version.tags)}, the model is of {subject_of(of)}"
        )
    return version


def classifier_of(version: ModelVersion) -> OnnxClassifier:
    """A registered classifier, if it is what was audited.

    Raises:
        BadRequest: it was withdrawn.
        DamagedArtifact: its spec, weights or file are not those that its tags say.
    """
    refuse_withdrawn(version)
    uri = f"models:/{version.name}/{version.version}"
    classifier = OnnxClassifier.read(Path(mlflow.artifacts.download_artifacts(uri)) / "model.onnx")
    classifier.check()
    found = {FORGET: classifier.metadata.get("forget"), WEIGHTS: classifier.digest, FILE: classifier.file_digest}
    for tag, value in found.items():
        if version.tags.get(tag) != value:
            raise DamagedArtifact(f"{uri} is not what was audited: its {tag} is {value}, audited was {version.tags.get(tag)}")
    return classifier
