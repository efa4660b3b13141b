"""Servers of this machine, for as long as a block: of tracking, and of a model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import requests

PATIENCE = 180.0  # seconds for a server to come up


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server in a process group of its own; within the block that it manages it answers.

    Args:
        words: its command, less host and port.
        health: the path that answers as soon as it is up.
        port: to listen on; by default a free one.
        program: the module that is run.
        of_process: for `subprocess.Popen`, such as `env`.
    """

    def __init__(self, words: list[str], health: str, port: int | None = None, program: str = "mlflow", **of_process: Any):
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        words = [sys.executable, "-m", program, *words, "--host", "127.0.0.1", "--port", str(self.port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(words, start_new_session=True, **quiet, **of_process)
        self._health = f"http://{self.address}{health}"

    def wait(self) -> Server:
        """Returns once it answers."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            try:
                requests.get(self._health, timeout=5).raise_for_status()
                return self
            except requests.RequestException:
                time.sleep(0.25)
        self.kill()
        raise AssertionError(f"{' '.join(map(str, self.process.args))} does not come up")

    def __enter__(self) -> Server:
        return self.wait()

    def __exit__(self, *error: object) -> None:
        self.kill()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to each of its processes that is left."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()


def tracking_server(folder: Path, port: int | None = None) -> Server:
    """`mlflow server` on the database of a folder, where it keeps artifacts too."""
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "served")]
    return Server(["server", *store, "--workers", "1"], "/health", port)


def model_server(model: str, **of_process: Any) -> Server:
    """`mlflow models serve` on a registered model."""
    return Server(["models", "serve", "-m", model, "--env-manager", "local"], "/ping", **of_process)


def container_server(model: str) -> Server:
    """What answers under `mlflow models serve`, run by itself, as in a container (docs/operations.md)."""
    words = ["--timeout-graceful-shutdown", "60", "mlflow.pyfunc.scoring_server.app:app"]
    return Server(words, "/ping", program="uvicorn", env={**os.environ, "__pyfunc_model_path__": model})


def answering(server: Server) -> psutil.Process:
    """Of the processes of a model server the one that answers."""
    first = psutil.Process(server.process.pid)
    return max(first.children(recursive=True) or [first], key=lambda one: one.memory_info().rss)
