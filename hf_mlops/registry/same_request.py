"""The same request several times at one moment: the version that was written first answers all of them."""

from __future__ import annotations

import time
from collections.abc import Collection

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from hf_mlops.registry.liveness import is_at_work
from hf_mlops.registry.names import FINGERPRINT, WHOLE, WITHDRAWN
from hf_mlops.registry.store import is_missing

RETRY = 0.1  # seconds between two looks at a version that another process is at work on


def made_by_request(name: str, fingerprint: str) -> list[ModelVersion]:
    """Versions of a registered model that requests with this fingerprint have made, the newest first: by number."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}' and tags.`{FINGERPRINT}` = '{fingerprint}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def is_done(version: ModelVersion) -> bool:
    """Whether a version may answer: it is whole, and its run has come to its end, so that its alias was moved, too."""
    run = _run_of(version)
    return version.tags.get(WHOLE) == "true" and run is not None and run.info.status == "FINISHED"


def is_in_the_making(version: ModelVersion) -> bool:
    """Whether the process that makes it is at work."""
    run = _run_of(version)
    return run is not None and is_at_work(run)


def _run_of(version: ModelVersion) -> Run | None:
    try:
        return mlflow.get_run(version.run_id) if version.run_id else None
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None


def first_written(version: ModelVersion, passed_over: Collection[str]) -> ModelVersion | None:
    """The version that another process has made for the same request, and has written before this one; None: there is none.

    What is in the making is waited for. Nobody waits for a version of a higher number, so that one of them gets through.

    Args:
        passed_over: versions, by number, that were known before the work and did not answer.
    """
    while True:
        found = made_by_request(version.name, version.tags[FINGERPRINT])
        others = [one for one in found if one.run_id != version.run_id and str(one.version) not in passed_over]
        before = [one for one in reversed(others) if int(one.version) < int(version.version) and WITHDRAWN not in one.tags]
        answers = next((one for one in before if is_in_the_making(one) or is_done(one)), None)
        if answers is None or is_done(answers):
            return answers
        time.sleep(RETRY)
