"""Servers of this machine, for as long as a block: of tracking, of a model, of a database, of artifacts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import requests

PATIENCE = 180.0  # seconds for a server to come up
PORT = "{port}"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server in a process group of its own; within the block that it manages it answers.

    Args:
        words: its command, with `PORT` for the port that it is to listen on.
        health: the path that answers as soon as it is up.
        port: to listen on; by default a free one.
        of_process: for `subprocess.Popen`, such as `env`.
    """

    def __init__(self, words: list[str], health: str, port: int | None = None, **of_process: Any):
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        words = [str(self.port) if word == PORT else word for word in words]
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


def _mlflow(*words: str) -> list[str]:
    return [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", PORT]


def tracking_server(folder: Path, *words: str, port: int | None = None, database: str = "", **variables: str) -> Server:
    """`mlflow server` on a database, by default one in a folder, where it keeps artifacts too unless `words` say otherwise.

    Args:
        variables: of its environment, beside those of this process.
    """
    store = ["--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db"]
    store += [] if "--default-artifact-root" in words else ["--artifacts-destination", str(folder / "served")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **variables}  # jobs are processes of their own
    return Server(_mlflow("server", *store, "--workers", "1", *words), "/health", port, env=environment)


def model_server(model: str, **of_process: Any) -> Server:
    """`mlflow models serve` on a registered model."""
    return Server(_mlflow("models", "serve", "-m", model, "--env-manager", "local"), "/ping", **of_process)


def container_server(model: str) -> Server:
    """What answers under `mlflow models serve`, run by itself, as in a container (docs/operations.md)."""
    words = ["--timeout-graceful-shutdown", "60", "mlflow.pyfunc.scoring_server.app:app", "--host", "127.0.0.1", "--port", PORT]
    return Server([sys.executable, "-m", "uvicorn", *words], "/ping", env={**os.environ, "__pyfunc_model_path__": model})


def answering(server: Server) -> psutil.Process:
    """Of the processes of a model server the one that answers."""
    first = psutil.Process(server.process.pid)
    return max(first.children(recursive=True) or [first], key=lambda one: one.memory_info().rss)


def object_store() -> Server:
    """What speaks as S3 does, in memory: moto."""
    return Server([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", PORT], "/moto-api/")


class Postgres:
    """PostgreSQL with a cluster of its own, which goes with the block; it can be stopped and started again within.

    It refuses to work for root, who lets Debian's user `postgres` run it.

    Raises:
        FileNotFoundError: its programs are not on this machine.
    """

    def __init__(self) -> None:
        self._programs = postgres_programs()
        self._folder = TemporaryDirectory(prefix="postgres-")  # not below pytest's own, which other users may not enter
        self._as_whom: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as_whom:
            shutil.chown(self._folder.name, **self._as_whom)
        self.port = free_port()

    def _command(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        words = (str(self._programs / program), "-D", f"{self._folder.name}/data", *words)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(words, cwd=self._folder.name, start_new_session=True, **quiet, **self._as_whom)

    def start(self) -> None:
        """Returns once it answers."""
        import psycopg

        where = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._process = self._command("postgres", *where, "-c", "fsync=off")
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(psycopg.OperationalError):
                return psycopg.connect(self._uri("postgresql", "postgres"), connect_timeout=5).close()
            time.sleep(0.1)
        raise AssertionError("PostgreSQL does not come up")

    def stop(self) -> None:
        """Cuts its connections off and returns once it is down."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def database(self, name: str) -> str:
        """The URI of a new, empty database."""
        import psycopg

        with psycopg.connect(self._uri("postgresql", "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._uri("postgresql+psycopg", name)

    def _uri(self, scheme: str, database: str) -> str:
        return f"{scheme}://mlflow@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Postgres:
        made = self._command("initdb", "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").wait()
        assert made == 0, "initdb has failed"
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._folder.cleanup()


def postgres_programs() -> Path:
    """The folder of `initdb` and `postgres`: Debian keeps them off the path.

    Raises:
        FileNotFoundError: they are not there; says how to get them.
    """
    for folder in [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise FileNotFoundError("PostgreSQL is not on this machine: apt-get install postgresql")
