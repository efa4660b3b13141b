"""Processes that begin with all that this one has imported and loaded, for what several do at once, or one that is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from sqlalchemy import Engine, event

WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


def forked(body: Callable[[], object], said: Path) -> int:
    """Starts a process that does this and ends, with 0 unless it raises an error.

    Args:
        said: the file that its output goes to.

    Returns:
        its identifier, for `ended`.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Waits for a process to end: its status, or the signal that has killed it, as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copied(database: Path, to: Path) -> str:
    """A copy of a SQLite database, by its URI; this process must not open it, or it could not be opened after a fork."""
    to.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as whole, closing(sqlite3.connect(to)) as copy:
        whole.backup(copy)
    return f"sqlite:///{to}"


def counting_writes(before: Callable[[int], object]) -> list[str]:
    """Calls `before` with its number, from 1, before whatever the main thread of this process writes to the store.

    That is each transaction that changes the database, and each file or folder of artifacts.

    Returns:
        what has been written: a list that grows.
    """
    written: list[str] = []
    changed: dict[Any, str] = {}

    def write(what: str) -> None:
        if threading.current_thread() is threading.main_thread():
            written.append(what)
            before(len(written))

    def look(connection: Any, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().upper().startswith(WRITES):
            changed.setdefault(connection, statement.split(" (")[0].split(" SET")[0])

    def commit(connection: Any) -> None:
        if connection in changed:
            write(changed.pop(connection))

    event.listen(Engine, "before_cursor_execute", look)
    event.listen(Engine, "commit", commit)
    for name in ("log_artifact", "log_artifacts", "delete_artifacts"):
        setattr(LocalArtifactRepository, name, _announced(getattr(LocalArtifactRepository, name), name, write))
    return written


def _announced(call: Callable[..., Any], name: str, write: Callable[[str], None]) -> Callable[..., Any]:
    def announced(*arguments: Any, **options: Any) -> Any:
        write(name)
        return call(*arguments, **options)

    return announced


def kill_before(number: int) -> None:
    """Kills this process before the write of this number, as by SIGKILL."""
    counting_writes(lambda now: os.kill(os.getpid(), signal.SIGKILL) if now == number else None)
