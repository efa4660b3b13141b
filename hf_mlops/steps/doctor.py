"""What killed processes have left in a store and on this machine, and its mending."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mlflow
from mlflow.entities import Run, RunStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from hf_mlops.registry.liveness import lost_runs
from hf_mlops.registry.names import CHECKPOINTS, FINGERPRINT, HYPERFORGET, RESUMABLE, STEP
from hf_mlops.registry.process import abandoned_folders
from hf_mlops.registry.runs import BROKEN_OFF, delete_artifacts, find_run
from hf_mlops.registry.storage import bytes_in, size_of
from hf_mlops.registry.versions import delete, left_halfway, name_of


@dataclass(frozen=True)
class Finding:
    """Something that is there and of no use.

    Args:
        what: it is, as a sentence.
        mend: takes it away; again, if that broke off.
        size: bytes that go with it.
    """

    what: str
    mend: Callable[[], object]
    size: int = 0


def findings() -> list[Finding]:
    """All that has been left, in an order in which it can be mended."""
    halfway = left_halfway(f"{HYPERFORGET}%")
    return [*_runs(), *_checkpoints(), *_versions(halfway), *_models(halfway), *_folders()]


def _runs() -> list[Finding]:
    client = mlflow.MlflowClient()

    def finding(run: Run) -> Finding:
        killed = RunStatus.to_string(RunStatus.KILLED)
        what = f"the {run.data.tags[STEP]} run {run.info.run_id} is marked as running, and its process is gone"
        return Finding(what, lambda: client.set_terminated(run.info.run_id, killed))

    return [finding(run) for run in lost_runs()]


def _checkpoints() -> list[Finding]:
    """Of runs that broke off, and whose work another has finished since."""

    def finding(run: Run) -> Finding:
        def mend() -> None:
            mlflow.MlflowClient().set_tag(run.info.run_id, RESUMABLE, "false")
            delete_artifacts(run, CHECKPOINTS)

        what = f"the run {run.info.run_id} has a checkpoint, and another run has finished its work"
        return Finding(what, mend, size_of(run.info.artifact_uri, CHECKPOINTS))

    resumable = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.`{RESUMABLE}` = 'true'", output_format="list", max_results=1000
    )
    return [
        finding(run)
        for run in resumable
        if run.info.status in BROKEN_OFF and find_run(run.data.tags[STEP], run.data.tags[FINGERPRINT])
    ]


def _versions(halfway: list[ModelVersion]) -> list[Finding]:
    """Registered halfway; the next registration under their name deletes them as well."""
    return [Finding(f"{name_of(version)} was not registered to the end", partial(delete, version)) for version in halfway]


def _models(halfway: list[ModelVersion]) -> list[Finding]:
    """Registered models that no version was ever made of, or none to the end: they keep a name from others."""
    client = mlflow.MlflowClient()

    def finding(model: RegisteredModel) -> Finding:
        def mend() -> None:
            if not client.search_model_versions(f"name = '{model.name}'"):  # another process may have made one
                client.delete_registered_model(model.name)

        return Finding(f"the registered model {model.name} has no version to keep", mend)

    ours, left = client.search_registered_models(f"name LIKE '{HYPERFORGET}%'"), {name_of(version) for version in halfway}
    return [
        finding(model)
        for model in ours
        if {name_of(version) for version in client.search_model_versions(f"name = '{model.name}'")} <= left
    ]


def _folders() -> list[Finding]:
    """Temporary folders of processes that were killed."""
    return [
        Finding(
            f"{folder} is the temporary folder of a process that was killed",
            partial(shutil.rmtree, folder),
            bytes_in(folder),
        )
        for folder in abandoned_folders()
    ]
