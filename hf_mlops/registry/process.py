"""Processes: the `mlflow run` that started this one, and the temporary folder that this one has to itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PERIOD = 1.0  # seconds between two looks at another process
FOLDER = re.compile(r"hf_mlops-(\d+)-([0-9a-f]+)-\w+")  # hf_mlops-<pid>-<second it was started in, hexadecimal>-<any>
RAY_ROOM = 39  # letters that a temporary folder may have for Ray to keep its sockets there: 107 less those behind it


def mlflow_run() -> psutil.Process | None:
    """The nearest process above this one that is `mlflow run`; None if there is none."""
    with suppress(psutil.Error):
        for process in psutil.Process().parents():
            with suppress(psutil.Error):
                if _is_mlflow_run(process.cmdline()):
                    return process
    return None


def _is_mlflow_run(words: list[str]) -> bool:
    """`python /bin/mlflow run .` and `python -m mlflow run .`, not `mlflow server`."""
    names = [Path(word).name for word in words]
    return "mlflow" in names and "run" in words[names.index("mlflow") + 1 :]


@contextmanager
def ending_with(process: psutil.Process | None) -> Iterator[None]:
    """Sends this process a SIGTERM if another one ends within the block, however it ends.

    `mlflow run` passes Ctrl-C on, but on SIGTERM and SIGKILL it ends alone, and what it has started would go on unseen.
    """
    if process is None:
        yield
        return
    left = threading.Event()

    def look() -> None:
        while not left.is_set():
            if not is_alive(process):
                return os.kill(os.getpid(), signal.SIGTERM)
            left.wait(PERIOD)

    looking = threading.Thread(target=look, name="ending-with-mlflow-run", daemon=True)
    looking.start()
    try:
        yield
    finally:
        left.set()
        looking.join()


def is_alive(process: psutil.Process) -> bool:
    """Whether that very process still works: no other one of its id has taken its place, and it is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lives(pid: int, started: float) -> bool:
    """Whether the process of this id works and is the one that was started then, in seconds since 1970."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 2 and is_alive(process)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Gives this process, and those it starts, a folder of their own in the temporary folder, which goes with the block.

    MLflow leaves in the temporary folder what it downloads, for ever.
    """
    before = {name: os.environ.get(name) for name in ("TMPDIR", "RAY_TMPDIR")}
    tempdir, usual = tempfile.tempdir, tempfile.gettempdir()
    started = int(psutil.Process().create_time())
    folder = tempfile.mkdtemp(prefix=f"hf_mlops-{os.getpid()}-{started:x}-", dir=usual)
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    if len(folder) > RAY_ROOM:
        os.environ.setdefault("RAY_TMPDIR", usual)
    try:
        yield Path(folder)
    finally:
        tempfile.tempdir = tempdir
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(folder, ignore_errors=True)


def abandoned_folders(parent: Path | None = None) -> list[Path]:
    """Temporary folders whose process has ended without removing them: it was killed.

    Args:
        parent: where to look; by default the temporary folder that processes have theirs in.
    """
    found, here = [], Path(tempfile.gettempdir())
    for folder in (parent or (here.parent if FOLDER.fullmatch(here.name) else here)).iterdir():
        named = FOLDER.fullmatch(folder.name)
        if named and folder.is_dir() and not lives(int(named[1]), int(named[2], 16)):
            found.append(folder)
    return sorted(found)
