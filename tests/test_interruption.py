"""Ctrl-C is raised where it can do no harm: never inside a call of the store."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator

import mlflow
import pytest
from sqlalchemy import Engine, event

from hf_mlops.registry import interruption
from hf_mlops.registry.interruption import interrupted, raise_on_signals
from hf_mlops.registry.runs import step_run


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    raise_on_signals()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    interrupted.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def armed() -> Iterator[threading.Event]:
    """Once set, the next INSERT of this thread sends this process a SIGINT from within its transaction."""
    armed = threading.Event()

    def send(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if armed.is_set() and threading.current_thread() is threading.main_thread() and statement.startswith("INSERT"):
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    event.listen(Engine, "before_cursor_execute", send)
    yield armed
    event.remove(Engine, "before_cursor_execute", send)


def test_an_interruption_waits_for_the_end_of_a_transaction(client: mlflow.MlflowClient, armed: threading.Event) -> None:
    with pytest.raises(KeyboardInterrupt) as raised, step_run("interrupted", "f", {}) as run:
        armed.set()
        mlflow.log_metric("figure", 1.0)
        time.sleep(5)
    assert not armed.is_set()
    assert not [frame for frame in traceback.extract_tb(raised.tb) if "sqlalchemy" in frame.filename]
    left = client.get_run(run.info.run_id)
    assert left.info.status == "KILLED" and left.data.metrics["figure"] == 1.0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_an_interruption_is_immediate_elsewhere_and_later_ones_are_ignored() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert time.monotonic() - started < 4
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_store_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "PATIENCE", 0.1)
    monkeypatch.setattr(interruption, "STORE", (__name__,))
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    assert 0.1 <= time.monotonic() - started < 4
