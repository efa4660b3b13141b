"""Who is at work on a run. A process that is killed cannot end its run: whoever finds it does."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from functools import partial

import mlflow
import psutil
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hf_mlops.registry.names import ALIVE, PROCESS, STEP
from hf_mlops.registry.process import lives
from hf_mlops.registry.store import is_denied, is_missing, was_allowed

BEAT = 15.0  # seconds between two signs of life
LOST = 180.0  # seconds without one after which a process on another machine is taken for gone


class Heartbeat:
    """Tells by tags of a run that this process is at work on it; a context manager."""

    def __init__(self, run_id: str):
        self._run_id, self._ended = run_id, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        this = psutil.Process()
        mlflow.set_tags({PROCESS: f"{this.pid} since {this.create_time():.2f} on {_machine()}", ALIVE: f"{time.time():.0f}"})
        self._thread.start()
        return self

    def _beat(self) -> None:
        client = mlflow.MlflowClient()
        while not self._ended.wait(BEAT):
            with suppress(Exception):  # of a store that is out of reach: the work itself will hear of it
                client.set_tag(self._run_id, ALIVE, f"{time.time():.0f}")

    def __exit__(self, *error: object) -> None:
        self._ended.set()


def _machine() -> str:
    return f"{socket.gethostname()} since {psutil.boot_time():.0f}"


def is_at_work(run: Run) -> bool:
    """Whether the process that began a run still lives: looked up on this machine, by its last sign of life on another.

    A run that waits for its turn is at work as long as that which it is a part of is.
    """
    process, alive = run.data.tags.get(PROCESS, ""), run.data.tags.get(ALIVE)
    if run.info.status == RunStatus.to_string(RunStatus.SCHEDULED) and MLFLOW_PARENT_RUN_ID in run.data.tags:
        return is_at_work_on(run.data.tags[MLFLOW_PARENT_RUN_ID])
    if run.info.status != RunStatus.to_string(RunStatus.RUNNING):
        return False
    if process.endswith(f" on {_machine()}"):
        pid, _, started, *_ = process.split()
        return lives(int(pid), float(started))
    seen = float(alive) if alive else run.info.start_time / 1000
    return time.time() - seen < LOST


def is_at_work_on(run_id: str) -> bool:
    """Whether somebody is at work on a run, or may be: of one that the user may not look at nothing is known."""
    try:
        return is_at_work(mlflow.get_run(run_id))
    except MlflowException as error:
        if not (is_missing(error) or is_denied(error)):
            raise
        return is_denied(error)


def lost_runs() -> list[Run]:
    """Runs of steps, in all experiments, that are marked as running or waiting and whose process is gone."""
    return [run for run in _begun() if not is_at_work(run)]


def runs_at_work() -> list[Run]:
    """Runs of steps, in all experiments, whose process is at work."""
    return [run for run in _begun() if is_at_work(run)]


def _begun() -> list[Run]:
    """Runs of steps that are marked as running or waiting."""
    begun: list[Run] = []
    for status in (RunStatus.RUNNING, RunStatus.SCHEDULED):
        begun += mlflow.search_runs(
            search_all_experiments=True,
            filter_string=f"attributes.status = '{RunStatus.to_string(status)}'",
            output_format="list",
            max_results=1000,
        )
    return [run for run in begun if STEP in run.data.tags]


def end_lost_runs() -> list[Run]:
    """Marks `lost_runs` as KILLED, those that the user may write to, and gives them."""
    ended = []
    for run in lost_runs():
        killed = RunStatus.to_string(RunStatus.KILLED)
        if was_allowed(partial(mlflow.MlflowClient().set_terminated, run.info.run_id, killed)):
            print(f"ended the {run.data.tags[STEP]} run {run.info.run_id} as KILLED: its process is gone")
            ended.append(run)
    return ended
