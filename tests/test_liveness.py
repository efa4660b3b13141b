"""Who is at work on a run: a killed process is known as such and its run ended, a live one is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import mlflow
import psutil
import pytest

from hf_mlops.registry import liveness
from hf_mlops.registry.liveness import LOST, end_lost_runs, is_at_work, lost_runs
from hf_mlops.registry.names import ALIVE, PROCESS, STEP
from hf_mlops.registry.runs import open_run, step_run, waiting_run

AT_WORK = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
from hf_mlops.registry.runs import step_run
with step_run("hypernet", "f", {}) as run:
    print(run.info.run_id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(client: mlflow.MlflowClient) -> subprocess.Popen[str]:
    """Another process that is at work on a run, whose identifier it prints."""
    words = [sys.executable, "-c", AT_WORK, mlflow.get_tracking_uri()]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_live_run_is_left_alone_and_a_killed_one_is_ended(
    client: mlflow.MlflowClient, other: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with other:
        assert other.stdout is not None
        run_id = other.stdout.readline().strip()
        with step_run("hypernet", "f", {}):
            assert client.get_run(run_id).info.status == "RUNNING" and is_at_work(client.get_run(run_id))
        other.send_signal(signal.SIGKILL)
    assert [run.info.run_id for run in lost_runs()] == [run_id]
    with step_run("hypernet", "f", {}):
        pass
    assert client.get_run(run_id).info.status == "KILLED"
    assert f"ended the hypernet run {run_id} as KILLED: its process is gone" in capsys.readouterr().out
    assert not end_lost_runs()


@pytest.mark.parametrize(
    ("process", "seconds", "at_work"),
    [
        (f"{os.getpid()} since 1.00 on {liveness._machine()}", 0, False),  # a number that was given again
        ("7 since 1.00 on elsewhere since 2", 0, True),
        ("7 since 1.00 on elsewhere since 2", LOST + 1, False),
        ("", 0, True),
        ("", LOST + 1, False),
    ],
    ids=["number given again", "elsewhere", "elsewhere and silent", "not told", "not told for long"],
)
def test_a_process_elsewhere_is_judged_by_its_last_sign_of_life(
    client: mlflow.MlflowClient, process: str, seconds: float, at_work: bool
) -> None:
    began = int(1000 * (time.time() - seconds))
    tags = {STEP: "targets", **({PROCESS: process, ALIVE: f"{time.time() - seconds}"} if process else {})}
    run = client.create_run(client.get_experiment_by_name("test").experiment_id, start_time=began, tags=tags)
    assert is_at_work(client.get_run(run.info.run_id)) == at_work
    client.set_terminated(run.info.run_id)


def test_a_run_gives_signs_of_life_until_it_ends(client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT", 0.1)
    with step_run("targets", "f", {}) as run:
        tags = client.get_run(run.info.run_id).data.tags
        assert tags[PROCESS].startswith(f"{os.getpid()} since {psutil.Process().create_time():.2f} on ")
        client.set_tag(run.info.run_id, ALIVE, "0")
        deadline = time.monotonic() + 30
        while client.get_run(run.info.run_id).data.tags[ALIVE] == "0" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert float(client.get_run(run.info.run_id).data.tags[ALIVE]) > time.time() - 60


def test_runs_of_others_are_not_ended(client: mlflow.MlflowClient) -> None:
    began = int(1000 * (time.time() - 2 * LOST))
    run = client.create_run(client.get_experiment_by_name("test").experiment_id, start_time=began)
    assert not end_lost_runs()
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    client.set_terminated(run.info.run_id)


def test_a_run_that_waits_is_at_work_as_long_as_that_which_it_is_a_part_of(client: mlflow.MlflowClient) -> None:
    experiment = client.get_experiment_by_name("test").experiment_id
    with step_run("forget", "f", {}):
        waiting = waiting_run("forget", "forget 7", {"colour": "red"})
        run = client.get_run(waiting)
        assert (run.info.status, run.info.run_name, run.data.tags["colour"]) == ("SCHEDULED", "forget 7", "red")
        assert is_at_work(run) and not lost_runs()
    assert not is_at_work(client.get_run(waiting)) and [run.info.run_id for run in end_lost_runs()] == [waiting]
    assert client.get_run(waiting).info.status == "KILLED"
    orphan = client.create_run(experiment, tags={STEP: "forget", "mlflow.parentRunId": "0" * 32})  # gc has taken its parent
    client.update_run(orphan.info.run_id, "SCHEDULED")
    assert [run.info.run_id for run in end_lost_runs()] == [orphan.info.run_id]


def test_a_run_that_has_waited_is_taken_up_where_it_was_left(client: mlflow.MlflowClient) -> None:
    with step_run("forget", "f", {}) as parent:
        waiting = waiting_run("forget", "forget 7", {"colour": "red"})
        began = client.get_run(waiting).info.start_time
        with open_run("forget", "forget 7", waiting) as run:
            assert run.info.run_id == waiting and is_at_work(client.get_run(waiting))
    done = client.get_run(waiting)
    assert (done.info.status, done.info.start_time, done.data.tags["colour"]) == ("FINISHED", began, "red")
    assert done.data.tags["mlflow.parentRunId"] == parent.info.run_id
