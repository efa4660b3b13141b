"""Steps as MLflow runs: found again by what went into them, measured while they work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run, RunStatus
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hf_mlops.base.source import source_digest
from hf_mlops.data.dataset import Dataset
from hf_mlops.registry.interruption import stop_if_interrupted
from hf_mlops.registry.names import CODE, FINGERPRINT, STEP


def fingerprint_of(step: str, inputs: dict[str, Any]) -> str:
    """Digest of all that decides a step's result: its name, its inputs (parameters, data, earlier runs) and the code."""
    text = json.dumps({"step": step, "code": source_digest(), **inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_run(
    step: str, fingerprint: str | None = None, tags: dict[str, str] | None = None, finished: bool = True
) -> Run | None:
    """The latest run of a step, in any experiment, with this fingerprint and these tags; None if there is none."""
    wanted = {STEP: step, **({FINGERPRINT: fingerprint} if fingerprint else {}), **(tags or {})}
    conditions = [f"tags.`{name}` = '{value}'" for name, value in wanted.items()]
    conditions.append(f"attributes.status {'=' if finished else '!='} 'FINISHED'")
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=" and ".join(conditions),
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return runs[0] if runs else None


@contextmanager
def step_run(step: str, fingerprint: str, params: dict[str, Any], tags: dict[str, str] | None = None) -> Iterator[Run]:
    """Runs a step inside an MLflow run: the one that `mlflow run` made, a child of `main`'s, or a new one.

    Args:
        step: an entry point's name.
        fingerprint: of the step.
        params: the resolved configuration, logged as parameters `step.name`.
        tags: more tags.

    The run ends as KILLED on Ctrl-C and as FAILED on any other error; only a FINISHED one is found and used by others.
    """
    mlflow.set_system_metrics_sampling_interval(1)  # short runs are over before the default of 10 s
    mlflow.set_system_metrics_samples_before_logging(1)
    nested = mlflow.active_run() is not None
    with mlflow.start_run(run_name=step if nested else None, nested=nested, log_system_metrics=True) as run:
        try:
            mlflow.set_tags({STEP: step, FINGERPRINT: fingerprint, CODE: source_digest(), **(tags or {})})
            mlflow.log_params({f"{step}.{name}": value for name, value in params.items()})
            stop_if_interrupted()
            yield run
            stop_if_interrupted()
        except KeyboardInterrupt:
            mlflow.end_run(RunStatus.to_string(RunStatus.KILLED))
            raise


def log_dataset(dataset: Dataset, context: str) -> None:
    """Logs a data set, with its digest, as an input of the active run."""
    source = from_numpy(
        dataset.train.images.numpy(), targets=dataset.train.labels.numpy(), name=dataset.name, digest=dataset.digest
    )
    mlflow.log_input(source, context=context)


def artifacts_of(run: Run, path: str) -> Path:
    """A folder of a run's artifacts, on this machine."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=path))


def delete_artifacts(run: Run, path: str) -> None:
    """Deletes a folder of a run's artifacts."""
    get_artifact_repository(run.info.artifact_uri).delete_artifacts(path)
