"""Steps as MLflow runs: found again by what went into them, measured while they work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run, RunStatus, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hf_mlops.base.source import source_digest
from hf_mlops.data.dataset import Dataset
from hf_mlops.registry.interruption import stop_if_interrupted
from hf_mlops.registry.liveness import Heartbeat, end_lost_runs
from hf_mlops.registry.names import CODE, FINGERPRINT, STEP, VERSION
from hf_mlops.registry.storage import bytes_in
from hf_mlops.registry.store import hasten

FINISHED, BROKEN_OFF = ("FINISHED",), ("KILLED", "FAILED")  # statuses of a run


def find_run(
    step: str, fingerprint: str | None = None, tags: dict[str, str] | None = None, statuses: tuple[str, ...] = FINISHED
) -> Run | None:
    """The latest run of a step, in any experiment, with this fingerprint, these tags and one of these statuses, if any."""
    return next(iter(find_runs(step, fingerprint, tags, statuses)), None)


def find_runs(
    step: str,
    fingerprint: str | None = None,
    tags: dict[str, str] | None = None,
    statuses: tuple[str, ...] = FINISHED,
) -> list[Run]:
    """All of them, the latest first: by the number of the version that they have made, and only then by the clock."""
    wanted = {STEP: step, **({FINGERPRINT: fingerprint} if fingerprint else {}), **(tags or {})}
    conditions = [f"tags.`{name}` = '{value}'" for name, value in wanted.items()]
    found: list[Run] = []
    for status in statuses:
        found += mlflow.search_runs(
            search_all_experiments=True,
            filter_string=" and ".join([*conditions, f"attributes.status = '{status}'"]),
            max_results=10**9,
            output_format="list",
        )
    return sorted(found, key=_how_late, reverse=True)


def _how_late(run: Run) -> tuple[int, int]:
    number = run.data.tags.get(VERSION, "").rpartition("/")[2]
    return int(number) if number.isdecimal() else 0, run.info.start_time


def runs_of(
    step: str, also: str = "", stage: int = ViewType.ACTIVE_ONLY, order_by: Sequence[str] = (), most: int = 10**9
) -> list[Run]:
    """Runs of steps in all experiments, also in those that are in the trash.

    Args:
        step: a condition on the step's name, as `= 'forget'`.
        also: a further condition.
        stage: which of MLflow's life cycle.
        most: how many, by `order_by`.
    """
    found = mlflow.search_runs(
        experiment_ids=[one.experiment_id for one in mlflow.search_experiments(view_type=ViewType.ALL)],
        filter_string=" and ".join([f"tags.`{STEP}` {step}", *[also] * bool(also)]),
        order_by=list(order_by),
        run_view_type=stage,
        max_results=most,
        output_format="list",
    )
    return list(found)


@contextmanager
def step_run(
    step: str, fingerprint: str, params: dict[str, Any], tags: dict[str, str] | None = None, name: str = ""
) -> Iterator[Run]:
    """Runs a step inside an MLflow run, as `open_run` and `describe_run` have it.

    Args:
        tags: more tags.
    """
    with open_run(step, name) as run:
        describe_run(step, fingerprint, params, tags)
        stop_if_interrupted()
        yield run


@contextmanager
def open_run(step: str, name: str = "", run_id: str | None = None) -> Iterator[Run]:
    """An MLflow run for a step: the one that `mlflow run` made, a child of the active one, or a new one.

    Args:
        step: an entry point's name.
        name: of the run; by default the step's.
        run_id: of one that `waiting_run` has made.

    The run ends as KILLED on Ctrl-C and as FAILED on any other error; only a FINISHED one is found and used by others. Runs of
    processes that were killed are ended first.
    """
    mlflow.set_system_metrics_sampling_interval(1)  # short runs are over before the default of 10 s
    mlflow.set_system_metrics_samples_before_logging(1)
    nested = mlflow.active_run() is not None
    if not nested:
        end_lost_runs()
    with mlflow.start_run(run_id, nested=nested, log_system_metrics=True) as run, Heartbeat(run.info.run_id):
        try:
            mlflow.set_tags({STEP: step, CODE: source_digest()})
            mlflow.MlflowClient().update_run(run.info.run_id, name=name or step)
            stop_if_interrupted()
            yield run
            stop_if_interrupted()
        except KeyboardInterrupt:
            mlflow.end_run(RunStatus.to_string(RunStatus.KILLED))
            raise
        except Exception as error:
            hasten(error)
            raise


def describe_run(step: str, fingerprint: str, params: dict[str, Any], tags: dict[str, str] | None = None) -> None:
    """Notes on the active run what its step works with.

    Args:
        fingerprint: of the step; once it has finished, the run is found by it.
        params: the resolved configuration, logged as parameters `step.name`.
    """
    mlflow.set_tags({FINGERPRINT: fingerprint, **(tags or {})})
    mlflow.log_params({f"{step}.{name}": value for name, value in params.items()})


def active_run_id() -> str:
    """The identifier of the active run."""
    active = mlflow.active_run()
    assert active is not None
    return active.info.run_id


def waiting_run(step: str, name: str, tags: dict[str, str]) -> str:
    """A child of the active run for a step whose turn is yet to come, for `open_run`, by its identifier."""
    client, parent = mlflow.MlflowClient(), mlflow.active_run()
    assert parent is not None
    about = resolve_tags({STEP: step, MLFLOW_PARENT_RUN_ID: parent.info.run_id, **tags})
    made = client.create_run(parent.info.experiment_id, tags=about, run_name=name).info.run_id
    client.update_run(made, RunStatus.to_string(RunStatus.SCHEDULED))
    return made


def log_dataset(dataset: Dataset, context: str) -> None:
    """Logs a data set, with its digest, as an input of the active run."""
    source = from_numpy(
        np.asarray(dataset.train.images), targets=np.asarray(dataset.train.labels), name=dataset.name, digest=dataset.digest
    )
    mlflow.log_input(source, context=context)


def say_what_is_stored(what: str, folder: Path) -> None:
    """Prints how much is about to go to the store: to one far away that takes a while."""
    print(f"storing the {what}: {bytes_in(folder) / 1e6:.1f} MB")


def artifacts_of(run: Run, path: str) -> Path:
    """A folder of a run's artifacts, on this machine."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=path))


def delete_artifacts(run: Run, path: str) -> None:
    """Deletes a folder of a run's artifacts."""
    get_artifact_repository(run.info.artifact_uri).delete_artifacts(path)
