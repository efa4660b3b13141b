"""Where files of the store lie, how many bytes they are, and their deletion; MLflow's trash, and emptying it for good."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import _get_store

from hf_mlops.registry.names import CLASSIFIER, HYPERFORGET
from hf_mlops.registry.store import is_missing

OURS = (HYPERFORGET, CLASSIFIER)  # names that this package logs models under


def place_of(version: ModelVersion) -> str:
    """Where the files of a version are; copies of it have the same place, and keep it when the version is deleted."""
    return mlflow.MlflowClient().get_model_version_download_uri(version.name, version.version)


def files_in(place: str, path: str = "") -> dict[str, int]:
    """Bytes of each file that lies in a place of the store, by its path in there.

    Args:
        path: a folder in it, relative to it, to look in alone; empty: all of it.
    """
    try:
        found = get_artifact_repository(place).list_artifacts(path or None)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return {}
    files = {file.path: file.file_size or 0 for file in found if not file.is_dir}
    for folder in (file.path for file in found if file.is_dir):
        files |= files_in(place, folder)
    return files


def size_of(place: str, path: str = "") -> int:
    """Bytes that lie there, in all."""
    return sum(files_in(place, path).values())


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder of this machine."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def delete_at(place: str) -> None:
    """Deletes all that lies in a place of the store."""
    get_artifact_repository(place).delete_artifacts()


def logged_models() -> dict[str, LoggedModel]:
    """All that were logged and are not in the trash, by the place of their files."""
    experiments = [one.experiment_id for one in mlflow.search_experiments()]
    found = mlflow.search_logged_models(experiments, output_format="list") if experiments else []
    return {one.artifact_location: one for one in found}


def delete_model(place: str, model_id: str | None) -> None:
    """Deletes a model that no version refers to, and, where the store is this machine's to empty, its row in the trash.

    Args:
        model_id: of the logged model, if it is one.
    """
    discard_model(place, model_id)
    if model_id is not None:
        delete_for_good(models=[model_id])


def discard_model(place: str, model_id: str | None) -> None:
    """Deletes the files of a model that no version refers to, then puts it into the trash; again, if that broke off."""
    delete_at(place)
    if model_id is None:
        return
    try:
        mlflow.MlflowClient().delete_logged_model(model_id)
    except MlflowException as error:
        if not is_missing(error):
            raise


def delete_run(run_id: str, place: str) -> None:
    """Deletes a run, its artifacts, and, where the store is this machine's to empty, its row in the trash."""
    mlflow.MlflowClient().delete_run(run_id)
    delete_at(place)
    delete_for_good(runs=[run_id])


# MLflow's trash: what was deleted stays in the database until `mlflow gc`, which needs the database and not its server


def _database() -> Any:
    """The tracking store, if it can be told to forget; None: it is behind a server."""
    store = _get_store()
    return store if hasattr(store, "_hard_delete_run") else None


def may_empty() -> bool:
    """Whether what is in the trash can be deleted for good from here."""
    return _database() is not None


def delete_for_good(runs: Sequence[str] = (), models: Sequence[str] = ()) -> None:
    """Does what `mlflow gc` does, for these runs and logged models that are in the trash; nothing, behind a server.

    By its command `mlflow gc` would delete with them every experiment in the trash, and all runs in those.
    """
    store = _database()
    if store is None:
        return
    from mlflow.cli import _gc_tracking_resources  # a second and a half, for which nobody else need wait

    with redirect_stdout(io.StringIO()):
        _gc_tracking_resources(
            store,
            run_ids=list(runs),
            experiment_ids=None,
            logged_model_ids=list(models),
            older_than=None,
            time_delta=0,
            skip_experiments=True,
            skip_logged_models=False,
            ignore_not_found=True,
        )


def runs_in_trash(seconds: float) -> set[str]:
    """Runs, anybody's, that were deleted at least so long ago, as far as the store tells."""
    return set(_database()._get_deleted_runs(older_than=int(1000 * seconds)))


def models_in_trash(seconds: float) -> dict[str, str]:
    """Logged models of this package that were deleted at least so long ago: their place by identifier."""
    store = _database()
    found = [store.get_logged_model(one, allow_deleted=True) for one in store._get_deleted_logged_models(int(1000 * seconds))]
    return {one.model_id: one.artifact_location for one in found if one.name in OURS}
