"""Registered models: the hypernetwork and the classifiers sampled from it. An alias moves only to a version that is whole."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from hf_mlops.audit.reference import Reference
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.base.spec import ForgetSpec, slug_of
from hf_mlops.registry import flavour
from hf_mlops.registry.lineage import origin, told_by
from hf_mlops.registry.names import (
    CHALLENGER,
    CHAMPION,
    CHAMPION_SINCE,
    CLASSIFIER,
    FILE,
    FORGET,
    HYPERFORGET,
    STANDING,
    WEIGHTS,
    alias_of,
)
from hf_mlops.registry.sealed import files_of, log
from hf_mlops.registry.versions import (
    belongs,
    classifier_name,
    name_of,
    refuse_again,
    refuse_withdrawn,
    register,
    set_alias,
    still_there,
    subject_of,
    utc_now,
    version_at,
)
from hf_mlops.serving import classifier as classifiers
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.serving.hypernetwork import OnnxHypernetwork

ANOTHER_CHAMPION = "run `mlflow run . -e targets` and `mlflow run . -e hypernet` first, or `mlflow run .` for the whole path"


@dataclass(frozen=True)
class Champion:
    """The hypernetwork in production.

    Args:
        onnx: what it samples with.
        reference: the retrain reference that its samples are judged against, of arrays of NumPy.
        folder: of its files.
        version: as it is registered.
    """

    onnx: OnnxHypernetwork
    reference: Reference
    folder: Path
    version: ModelVersion

    @property
    def identity(self) -> dict[str, str]:
        """What it is to whatever is made with it: the run that made it."""
        return {"champion": self.version.run_id or ""}

    def __str__(self) -> str:
        """Name and version: `hyperforget/3`."""
        return name_of(self.version)


def pins(*packages: str) -> list[str]:
    """Requirements of these packages as they are installed here."""
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


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
    client.set_model_version_tag(name, challenger.version, CHAMPION_SINCE, utc_now())
    set_alias(name, CHAMPION, challenger.version)
    if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == str(challenger.version):
        client.delete_registered_model_alias(name, CHALLENGER)


def load_hypernetwork(version: ModelVersion) -> Champion:
    """A registered hypernetwork, whether or not it is the one in production.

    Raises:
        BadRequest: it was withdrawn.
        DamagedArtifact: its files are not those that were registered.
    """
    model = files_of(version, ANOTHER_CHAMPION)
    logged = Model.load(str(model)).flavors[mlflow.pyfunc.FLAVOR_NAME]["artifacts"]["hypernetwork"]["path"]
    folder = model / logged  # read by this package: the code that lies beside it in the store is not run
    return Champion(OnnxHypernetwork.read(folder), Reference.load(folder), folder, version)


def register_classifier(
    classifier: OnnxClassifier,
    champion: Champion,
    spec: ForgetSpec,
    tags: dict[str, Any],
    description: str,
    passed_over: Collection[str] | None = None,
) -> ModelVersion:
    """Logs a checked ONNX classifier to the active run, registers it and moves the alias of its forget spec to it.

    Args:
        champion: what it was sampled from, whose subject is the classifier's.
        tags: its evidence; added are the spec, the subject, its lineage and the digests of weights and file.
        description: its lineage is added.
        passed_over: as for `register`, which may give the version that another process has made for the same request.

    Raises:
        BadRequest: the registered model of that name has classifiers of another subject; or a classifier of the very same
            weights was withdrawn, or the hypernetwork was while this was at work.
    """
    refuse_again(WEIGHTS, classifier.digest)
    if (now := still_there(str(champion))) is not None:
        refuse_withdrawn(now, ANOTHER_CHAMPION)
    name, subject = classifier_name(champion.version.name), subject_of(champion.version.tags)
    if not belongs(name, subject):
        raise BadRequest(f"the registered model {name} is of other data or another network than {subject}")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *classifier.input_shape), classifiers.INPUT)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classifier.classes), classifiers.OUTPUT)]),
    )
    info, sealed = log(
        CLASSIFIER,
        flavour.save_model,
        onnx_model=classifier.model,
        signature=signature,
        input_example={classifiers.INPUT: np.zeros((1, *classifier.input_shape), np.float32)},
        pip_requirements=pins("mlflow-skinny", "numpy", "pandas", "onnx", "onnxruntime"),
    )
    about = {**subject.tags, FORGET: str(spec), WEIGHTS: classifier.digest, FILE: classifier.file_digest, **sealed}
    about |= origin(champion.version) | tags
    text = {tag: value if isinstance(value, str) else json.dumps(value) for tag, value in about.items()}
    comes_from = told_by(text, name, info.run_id).in_markdown()
    return register(info, name, alias_of(spec.slug), text, f"{description}\n\n{comes_from}", passed_over)


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
        DamagedArtifact: its files are not those that were registered, or its spec and weights not those that its tags say.
    """
    uri = f"models:/{name_of(version)}"
    classifier = OnnxClassifier.read(files_of(version) / "model.onnx")
    classifier.check()
    found = {FORGET: classifier.metadata.get("forget"), WEIGHTS: classifier.digest, FILE: classifier.file_digest}
    for tag, value in found.items():
        if version.tags.get(tag) != value:
            raise DamagedArtifact(f"{uri} is not what was audited: its {tag} is {value}, audited was {version.tags.get(tag)}")
    return classifier
