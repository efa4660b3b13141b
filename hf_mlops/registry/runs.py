"""Steps as MLflow runs: found again by what went into them, measured while they work."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import click
import mlflow
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run, RunStatus
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

import hf_mlops
from hf_mlops.data.dataset import Dataset

logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
if not sys.stderr.isatty():
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)

_interrupted = threading.Event()

STEP, FINGERPRINT = "hf_mlops.step", "hf_mlops.fingerprint"


@cache
def code_version() -> str:
    """First 16 hex digits of the SHA-256 over the package's source files."""
    sha = hashlib.sha256()
    root = Path(hf_mlops.__file__).parent
    for file in sorted(root.rglob("*.py")):
        sha.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]


def fingerprint(step: str, inputs: dict[str, Any]) -> str:
    """Digest of all that decides a step's result: its name, its inputs (parameters, data, earlier runs) and the code."""
    text = json.dumps({"step": step, "code": code_version(), **inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_run(step: str, mark: str | None = None, tags: dict[str, str] | None = None, finished: bool = True) -> Run | None:
    """The latest run of a step, in any experiment, with this fingerprint and these tags; None if there is none."""
    wanted = {STEP: step, **({FINGERPRINT: mark} if mark else {}), **(tags or {})}
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
def step_run(step: str, mark: str, settings: dict[str, Any], tags: dict[str, str] | None = None) -> Iterator[Run]:
    """Runs a step inside an MLflow run: the one that `mlflow run` made, a child of `main`'s, or a new one.

    Args:
        step: an entry point's name.
        mark: its fingerprint.
        settings: the resolved configuration, logged as parameters `step.name`.
        tags: more tags.

    The run ends as KILLED on Ctrl-C and as FAILED on any other error; only a FINISHED one is found and used by others.
    """
    mlflow.set_system_metrics_sampling_interval(1)  # short runs are over before the default of 10 s
    mlflow.set_system_metrics_samples_before_logging(1)
    nested = mlflow.active_run() is not None
    with mlflow.start_run(run_name=step if nested else None, nested=nested, log_system_metrics=True) as run:
        try:
            mlflow.set_tags({STEP: step, FINGERPRINT: mark, "hf_mlops.code": code_version(), **(tags or {})})
            mlflow.log_params({f"{step}.{name}": value for name, value in settings.items()})
            _stop_if_interrupted()
            yield run
            _stop_if_interrupted()
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


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns errors and warnings that a user can cause into one clear line each, and checks that the tracking server answers.

    An error ends the process with status 1, an interruption with 130, after what was half-made is taken back.
    """
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"
    for number in (signal.SIGINT, signal.SIGTERM):  # on Ctrl-C `mlflow run` sends both, one after the other
        signal.signal(number, _interrupt)
    try:
        _require_tracking_server()
        yield
    except (ValueError, OSError, mlflow.MlflowException) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        print("interrupted: nothing is half-made; the same command goes on from the last finished step", file=sys.stderr)
        raise SystemExit(130) from None


def _interrupt(number: int, frame: object) -> None:
    """Interrupts once; what comes after must not interrupt the taking back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _interrupted.set()
    raise KeyboardInterrupt


def _stop_if_interrupted() -> None:
    """Interrupts again where code on the way, say a callback, has swallowed the exception."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def _require_tracking_server() -> None:
    uri = mlflow.get_tracking_uri()
    if urlparse(uri).scheme not in ("http", "https"):
        return
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except OSError as error:
        raise click.ClickException(
            f"no MLflow tracking server answers at {uri} ({error}): start it, or set MLFLOW_TRACKING_URI to one that runs"
        ) from error
