"""Processes: a command ends with the `mlflow run` that started it, and leaves nothing in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hf_mlops.registry import process
from hf_mlops.registry.process import abandoned_folders, ending_with, is_alive, mlflow_run, own_temporary_folder


@pytest.fixture
def terminated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The SIGTERMs that this process has been sent; it looks for them twenty times a second."""
    monkeypatch.setattr(process, "PERIOD", 0.05)
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def other() -> Iterator[psutil.Process]:
    """Another process, which this one does not wait for: once it has ended it is a zombie."""
    started = subprocess.Popen(["sleep", "60"])
    yield psutil.Process(started.pid)
    started.kill()
    started.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_this_process_is_terminated_when_the_other_ends(
    number: signal.Signals, other: psutil.Process, terminated: list[int]
) -> None:
    with ending_with(other):
        time.sleep(0.2)
        assert not terminated and is_alive(other)
        other.send_signal(number)
        until = time.monotonic() + 5
        while not terminated and time.monotonic() < until:
            time.sleep(0.02)
    assert terminated == [signal.SIGTERM] and not is_alive(other)


def test_after_the_block_the_other_may_end(other: psutil.Process, terminated: list[int]) -> None:
    with ending_with(None), ending_with(other):
        pass
    other.kill()
    time.sleep(0.3)
    assert not terminated


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("/usr/bin/python3 /venv/bin/mlflow run .", True),
        ("python -m mlflow run /clone -e targets", True),
        ("/venv/bin/mlflow --env-file here.env run .", True),
        ("python /venv/bin/mlflow server --port 5000", False),
        ("python run mlflow", False),
        ("conda run mine", False),
    ],
)
def test_the_process_above_that_is_mlflow_run_is_found(words: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Above(psutil.Process):
        def cmdline(self) -> list[str]:
            return words.split()

    class Gone(psutil.Process):
        def cmdline(self) -> list[str]:
            raise psutil.AccessDenied(1)

    above = Above()
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [Gone(), above])
    assert mlflow_run() is (above if found else None)


def test_no_process_above_the_tests_is_mlflow_run() -> None:
    assert mlflow_run() is None


def test_what_is_temporary_is_in_one_folder_which_goes_also_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    tempfile.gettempdir()
    with pytest.raises(KeyError), own_temporary_folder() as folder:
        assert folder.parent == tmp_path and Path(tempfile.mkdtemp()).parent == folder
        child = [sys.executable, "-c", "import tempfile; open(tempfile.mkstemp()[1], 'w').write('x')"]
        subprocess.run(child, check=True)
        assert len(list(folder.iterdir())) == 2 and list(tmp_path.iterdir()) == [folder]
        raise KeyError
    assert not list(tmp_path.iterdir())
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)


@pytest.mark.parametrize(("letters", "is_short"), [(1, True), (60, False)])
def test_ray_keeps_its_sockets_where_their_paths_are_not_too_long(
    letters: int, is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(prefix="x" * letters, dir="/tmp") as usual:
        monkeypatch.setattr(tempfile, "tempdir", "/tmp" if is_short else usual)
        with own_temporary_folder() as folder:
            assert os.environ.get("RAY_TMPDIR") == (None if is_short else usual)
            where = Path(os.environ.get("RAY_TMPDIR", folder))
    assert "RAY_TMPDIR" not in os.environ
    session = where / "ray" / "session_2026-01-01_00-00-00_000000_4194304" / "sockets" / "plasma_store"
    assert not is_short or len(str(session)) <= 107


def test_folders_of_killed_processes_are_told_from_those_of_living_ones(tmp_path: Path, other: psutil.Process) -> None:
    code = (
        "import os, signal, tempfile; from hf_mlops.registry.process import own_temporary_folder\n"
        "with own_temporary_folder() as folder: print(folder.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    started = int(other.create_time())
    same_id, living = f"hf_mlops-{other.pid}-{started - 100:x}-abc", f"hf_mlops-{other.pid}-{started:x}-abc"
    for name in (same_id, living, "hf_mlops-of-somebody", "other"):
        (tmp_path / name).mkdir()
    assert killed.stdout.strip(), killed.stderr
    assert {folder.name for folder in abandoned_folders(tmp_path)} == {killed.stdout.strip(), same_id}
