"""Withdrawing a version: it serves nothing from then on, is not made again by the way, and its record stays."""

from __future__ import annotations

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
from hf_mlops.registry.storage import place_of
from hf_mlops.registry.versions import name_of, utc_now, why_withdrawn

LONGEST = 1000  # characters of a reason
IN_ITS_PLACE = "withdrawn.py"


def withdraw(version: ModelVersion, reason: str, sampled: bool = False) -> list[ModelVersion]:
    """Withdraws a version, and all others of the same weights: copies under another name, and a second registration.

    First they are tagged, with time, reason and the aliases that they have; then these are deleted, then the files. Whoever is
    killed in between does the same again, which goes on; what was withdrawn before keeps its first reason and time.

    Args:
        reason: for the record, in words.
        sampled: whether the classifiers that were sampled from it go with it, with the same reason.

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
    same, now = with_it(version, sampled), utc_now()
    require_permissions(models={one.name: MANAGE for one in same}, experiments=dict.fromkeys(_experiments(same), MANAGE))
    for one in same:
        _tag(one, reason, now)
    for one in same:
        _delete_aliases(one)
    for one in same:
        delete_exports(one)
    for place, one in {place_of(one): one for one in reversed(same)}.items():
        _delete_files(place, one)
    return [_again(one) for one in same]


def with_it(version: ModelVersion, sampled: bool) -> list[ModelVersion]:
    """What is withdrawn with a version, that first; what was withdrawn before is in it.

    Args:
        sampled: whether the classifiers that were sampled from it go with it.

    Raises:
        BadRequest: a version that is not this package's or was not registered to the end.
    """
    if ARCHITECTURE not in version.tags or version.tags.get(WHOLE) == "false":
        raise BadRequest(
            f"version = {name_of(version)!r} is not allowed; allowed: one that hf_mlops has registered to the end, which its"
            f" tags {ARCHITECTURE} and {WHOLE} say"
        )
    same = _of_the_same_weights(version)
    further = [one for of in same for made in sampled_from(of) for one in _of_the_same_weights(made)] if sampled else []
    return list({name_of(one): one for one in [*same, *further]}.values())


def sampled_from(hypernetwork: ModelVersion) -> list[ModelVersion]:
    """The classifiers that were sampled from a hypernetwork, registered to the end: what is wrong with it may be with them."""
    made_from = f"tags.`{SAMPLED_FROM}` = '{name_of(hypernetwork)}' and tags.`{WHOLE}` = 'true'"
    found = mlflow.MlflowClient().search_model_versions(made_from)
    return sorted(found, key=lambda version: (version.name, int(version.version)))


def exports_of(version: ModelVersion) -> list[Run]:
    """Runs of `export` that have taken a version out, each with a copy of it in the store, unless that was deleted."""
    return _runs(f"params.`{EXPORT_OF}` = '{name_of(version)}'")


def _again(version: ModelVersion) -> ModelVersion:
    """A version as it is now."""
    return mlflow.MlflowClient().get_model_version(version.name, version.version)


def _of_the_same_weights(version: ModelVersion) -> list[ModelVersion]:
    """The version, then those of the same digest or in the same place."""
    client, place = mlflow.MlflowClient(), place_of(version)
    others = {
        name_of(one): one for one in client.search_model_versions(f"run_id = '{version.run_id}'") if place_of(one) == place
    }
    if digest := version.tags.get(WEIGHTS):
        others |= {name_of(one): one for one in client.search_model_versions(f"tags.`{WEIGHTS}` = '{digest}'")}
    others.pop(name_of(version), None)
    return [version, *others.values()]


def _experiments(versions: list[ModelVersion]) -> set[str]:
    """Those that the files of versions are kept with, and the copies that `export` has left."""
    runs = [run for one in versions for run in [*_runs(f"attributes.run_id = '{one.run_id}'"), *exports_of(one)]]
    return {run.info.experiment_id for run in runs}


def aliases_of(version: ModelVersion) -> list[str]:
    """The aliases that are on a version."""
    aliases = mlflow.MlflowClient().get_registered_model(version.name).aliases
    return sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))


def _tag(version: ModelVersion, reason: str, now: str) -> None:
    """`WITHDRAWN` last: it is by that tag that others tell."""
    if WITHDRAWN not in version.tags:
        for tag, value in ((SERVED, ",".join(aliases_of(version))), (WHY, reason), (WITHDRAWN, now)):
            mlflow.MlflowClient().set_model_version_tag(version.name, version.version, tag, value)


def _delete_aliases(version: ModelVersion) -> None:
    for alias in aliases_of(version):
        mlflow.MlflowClient().delete_registered_model_alias(version.name, alias)


def delete_exports(version: ModelVersion) -> None:
    """Deletes the copies that `export` has left in the store."""
    for run in exports_of(version):
        delete_artifacts(run, EXPORTED)


def _runs(filter_string: str) -> list[Run]:
    """Runs of all experiments, deleted ones too."""
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=filter_string, run_view_type=ViewType.ALL, output_format="list"
    )
    return list(found)


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
