"""Models of this package in the store: logged with the SHA-256 of each of their files, and held against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.registry.checked import SUMS, altered, files_in
from hf_mlops.registry.names import FILES
from hf_mlops.registry.versions import name_of, refuse_withdrawn


def seal(folder: Path) -> str:
    """Writes the sums of a model's files beside them, as `sha256sum --check` reads them; gives the digest of the sums."""
    text = "".join(f"{sha256(folder / name)}  {name}\n" for name in files_in(folder))
    (folder / SUMS).write_text(text, encoding="utf-8")
    return sha256(folder / SUMS)


def save(path: Path, save_model: Callable[..., None], **options: Any) -> str:
    """Saves a model in a folder that is not there yet, sealed; gives the digest of its sums.

    Args:
        save_model: a flavour's function, and its options.
    """
    save_model(path=str(path), **options)
    return seal(path)


def log(name: str, save_model: Callable[..., None], **options: Any) -> tuple[ModelInfo, dict[str, str]]:
    """Logs a model to the active run, sealed; gives with it the tag that its version is to have."""
    made = _Sealing(save_model)
    before = MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING.get()
    MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING.set(False)  # it would write again to a folder that is sealed
    try:
        info = Model.log(None, made, name=name, **options)
    finally:
        MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING.set(before)
    return info, {FILES: made.digest}


class _Sealing:
    """A flavour, for `Model.log`, that seals what another one saves."""

    digest = ""

    def __init__(self, save_model: Callable[..., None]):
        self.save = save_model

    def save_model(self, path: str, **options: Any) -> None:
        self.digest = save(Path(path), self.save, **options)


def files_of(version: ModelVersion, otherwise: str = "") -> Path:
    """The folder of a registered version's files, if they are those that were registered, all of them and no others.

    Args:
        otherwise: what to do if it was withdrawn; for the error.

    Raises:
        BadRequest: it was withdrawn.
        DamagedArtifact: a file is missing, altered or new, or the version is of before files were sealed.
    """
    refuse_withdrawn(version, *[otherwise] * bool(otherwise))
    uri = f"models:/{name_of(version)}"
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    if FILES not in version.tags:
        raise DamagedArtifact(f"{uri} has no tag {FILES}: it was registered before there was one; run again what made it")
    wrong = altered(folder)
    if not wrong and (found := sha256(folder / SUMS)) != version.tags[FILES]:
        wrong = f"the SHA-256 of {SUMS} is {found}, registered was {version.tags[FILES]}"
    if wrong:
        raise DamagedArtifact(f"{uri} is not what was registered: {wrong}")
    return folder
