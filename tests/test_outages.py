"""A tracking server that goes while a command works: it hangs, it cannot write, it is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import (
    environment,
    script,
)

from benchmarks.servers import Server, tracking_server
from hf_mlops.base.errors import OutOfReach


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Server]:
    with tracking_server(server_folder) as server:
        yield server


def cut_off(server: Server, tmp_path: Path, happens: Callable[[], object]) -> tuple[int, list[str], float]:
    """Status, errors and seconds of a command that logs a file after something has happened to the server."""
    body = """
        with mlflow.start_run():
            try:
                print("working", flush=True)
                sys.stdin.readline()
                mlflow.log_text("text", "file.txt")
            except Exception as error:
                hasten(error)
                raise
        """
    with subprocess.Popen(
        script(body),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(f"http://me:secret@{server.address}", TMPDIR=str(tmp_path)),
    ) as command:
        assert command.stdout is not None
        while (line := command.stdout.readline()) != "working\n":
            assert line, command.communicate()
        happens()
        started = time.monotonic()
        _, errors = command.communicate("go on\n", timeout=300)
    assert not list(tmp_path.iterdir()) and "secret" not in errors
    return command.returncode, errors.splitlines(), time.monotonic() - started


@pytest.mark.slow
def test_a_server_that_hangs_in_the_middle_is_given_up_within_a_minute(server: Server, tmp_path: Path) -> None:
    try:
        status, errors, seconds = cut_off(server, tmp_path, lambda: server.send(signal.SIGSTOP))
    finally:
        server.send(signal.SIGCONT)
    assert status == OutOfReach.status
    assert errors == [f"Error: the server at http://me:***@{server.address} is out of reach: timed out"]
    assert seconds < 120  # many minutes without a limit


@pytest.mark.slow
def test_a_store_of_artifacts_that_cannot_be_written_is_named(server: Server, server_folder: Path, tmp_path: Path) -> None:
    served = server_folder / "served"

    def replace_by_a_file() -> None:
        shutil.rmtree(served, ignore_errors=True)
        served.touch()

    status, errors, seconds = cut_off(server, tmp_path, replace_by_a_file)
    served.unlink()
    assert status == OutOfReach.status and len(errors) == 1
    assert f"the artifact store behind the server at http://me:***@{server.address} is out of reach: too many 500" in errors[0]
    assert seconds < 120  # many minutes without a limit


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_is_named(server: Server, tmp_path: Path) -> None:
    status, errors, seconds = cut_off(server, tmp_path, lambda: server.send(signal.SIGKILL))
    assert status == OutOfReach.status
    assert errors == [f"Error: the server at http://me:***@{server.address} is out of reach: Connection refused"]
    assert seconds < 120  # many minutes without a limit
