"""Ctrl-C and SIGTERM as one KeyboardInterrupt, raised where it can do no harm."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

interrupted = threading.Event()  # code on the way may swallow the KeyboardInterrupt; who checks this sees it all the same

STORE = ("sqlalchemy.", "mlflow.store.tracking", "mlflow.store.model_registry")  # modules at work in a call of the store
PATIENCE = 10.0  # seconds that a call of the store has to end
RETRY = 0.02  # seconds between two looks


def raise_on_signals() -> None:
    """Lets the first SIGINT or SIGTERM raise a KeyboardInterrupt, and ignores those after it: taking back is undisturbed.

    In the middle of a call of the store it waits for the end of it: an exception that is raised inside a transaction can leave
    it open, and a database on disk then stays locked for the other threads of the process, for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def stop_if_interrupted() -> None:
    """Raises the KeyboardInterrupt that code on the way has swallowed."""
    if interrupted.is_set():
        signal.setitimer(signal.ITIMER_REAL, 0)  # it is raised here
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupted.set()
    _raise_outside_of_the_store(frame, time.monotonic() + PATIENCE)


def _raise_outside_of_the_store(frame: FrameType | None, until: float) -> None:
    if time.monotonic() > until or not _in_store(frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, lambda number, frame: _raise_outside_of_the_store(frame, until))
    signal.setitimer(signal.ITIMER_REAL, RETRY)


def _in_store(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_globals.get("__name__", "").startswith(STORE):
        frame = frame.f_back
    return frame is not None
