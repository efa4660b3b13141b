"""Withdrawing a version: it serves nothing from then on, is not made again by the way, and its record stays."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hf_mlops.base.errors import BadRequest
from hf_mlops.registry.names import ARCHITECTURE, EXPORT_OF, EXPORTED, SAMPLED_FROM, SERVED, WEIGHTS, WHOLE, WHY, WITHDRAWN
from hf_mlops.registry.permissions import MANAGE, require_permissions
from hf_mlops.registry.runs import delete_artifacts
from hf_mlops.registry.versions import name_of, why_withdrawn

LONGEST = 1000  # characters of a reason
IN_ITS_PLACE = "withdrawn.py"


def withdraw(version: ModelVersion, reason: str) -> list[ModelVersion]:
    """Withdraws a version, and all others of the same weights: copies under another name, and a second registration.

    First they are tagged, with time, reason and the aliases that they have; then these are deleted, then the files. Whoever is
    killed in between does the same again, which goes on; what was withdrawn before keeps its first reason and time.

    Args:
        reason: for the record, in words.

    Returns:
        them, as they are now.

    Raises:
        BadRequest: no reason, a version that is not this package's or was not registered to the end, or a user who may not.
    """
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= LONGEST:
        raise BadRequest(
            f"reason = {reason[:60]!r} is not allowed; allowed: a text of 1 to {LONGEST} characters, for the record"
        )
    if ARCHITECTURE not in version.tags or version.tags.get(WHOLE) == "false":
        raise BadRequest(
            f"version = {name_of(version)!r} is not allowed; allowed: one that hf_mlops has registered to the end, which its"
            f" tags {ARCHITECTURE} and {WHOLE} say"
        )
    same, now = _of_the_same_weights(version), datetime.now(timezone.utc).isoformat(timespec="seconds")
    require_permissions(models={one.name: MANAGE for one in same}, experiments=dict.fromkeys(_experiments(same), MANAGE))
    for one in same:
        _tag(one, reason, now)
    for one in same:
        _delete_aliases(one)
    for one in same:
        for run in _exports(one):
            delete_artifacts(run, EXPORTED)
    for place, one in {_place(one): one for one in reversed(same)}.items():
        _delete_files(place, one)
    return [_again(one) for one in same]


def sampled_from(hypernetwork: ModelVersion) -> list[ModelVersion]:
    """The classifiers that were sampled from a hypernetwork and are not withdrawn: what is wrong with it may be with them."""
    made_from = f"tags.`{SAMPLED_FROM}` = '{name_of(hypernetwork)}'"
    return [one for one in mlflow.MlflowClient().search_model_versions(made_from) if WITHDRAWN not in one.tags]


def _again(version: ModelVersion) -> ModelVersion:
    """A version as it is now."""
    return mlflow.MlflowClient().get_model_version(version.name, version.version)


def _of_the_same_weights(version: ModelVersion) -> list[ModelVersion]:
    """The version, then those of the same digest or in the same place."""
    client, place = mlflow.MlflowClient(), _place(version)
    others = {name_of(one): one for one in client.search_model_versions(f"run_id = '{version.run_id}'") if _place(one) == place}
    if digest := version.tags.get(WEIGHTS):
        others |= {name_of(one): one for one in client.search_model_versions(f"tags.`{WEIGHTS}` = '{digest}'")}
    others.pop(name_of(version), None)
    return [version, *others.values()]


def _place(version: ModelVersion) -> str:
    """Where its files are."""
    return mlflow.MlflowClient().get_model_version_download_uri(version.name, version.version)


def _experiments(versions: list[ModelVersion]) -> set[str]:
    """Those that the files of versions are kept with, and the copies that `export` has left."""
    runs = [run for one in versions for run in [*_runs(f"attributes.run_id = '{one.run_id}'"), *_exports(one)]]
    return {run.info.experiment_id for run in runs}


def _aliases(version: ModelVersion) -> list[str]:
    aliases = mlflow.MlflowClient().get_registered_model(version.name).aliases
    return sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))


def _tag(version: ModelVersion, reason: str, now: str) -> None:
    """`WITHDRAWN` last: it is by that tag that others tell."""
    if WITHDRAWN not in version.tags:
        for tag, value in ((SERVED, ",".join(_aliases(version))), (WHY, reason), (WITHDRAWN, now)):
            mlflow.MlflowClient().set_model_version_tag(version.name, version.version, tag, value)


def _delete_aliases(version: ModelVersion) -> None:
    for alias in _aliases(version):
        mlflow.MlflowClient().delete_registered_model_alias(version.name, alias)


def _exports(version: ModelVersion) -> list[Run]:
    """The runs of `export` that have left copies of it in the store."""
    return _runs(f"params.`{EXPORT_OF}` = '{name_of(version)}'")


def _runs(filter_string: str) -> list[Run]:
    """Runs of all experiments, deleted ones too."""
    return mlflow.search_runs(
        search_all_experiments=True, filter_string=filter_string, run_view_type=ViewType.ALL, output_format="list"
    )


def _delete_files(place: str, version: ModelVersion) -> None:
    """Deletes a model, and puts one in its place that says why.

    MLflow would load a version by number, whatever its tags are.
    """
    repository = get_artifact_repository(place)
    repository.delete_artifacts()
    with TemporaryDirectory() as folder:
        _write_refusal(Path(folder), why_withdrawn(_again(version)))
        repository.log_artifacts(folder)


def _write_refusal(folder: Path, said: str) -> None:
    """Writes an MLflow model that cannot be loaded, and says why."""
    raising = f"from mlflow.exceptions import MlflowException\n\nraise MlflowException.invalid_parameter_value({said!r})\n"
    (folder / IN_ITS_PLACE).write_text(raising, encoding="utf-8")
    model = Model()
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.pyfunc.loaders.code_model", model_code_path=IN_ITS_PLACE)
    model.save(str(folder / MLMODEL_FILE_NAME))
