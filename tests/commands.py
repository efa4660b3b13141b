"""Entry points as tests call them: in this process, by themselves, and through `mlflow run` on a store on disk."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import mlflow
import pytest
from click.testing import CliRunner, Result

from projects.command import entry_point

ROOT = Path(__file__).parent.parent
ENTRY_POINTS = ("main", "targets", "hypernet", "forget", "evaluate", "export")
NEEDED = {"forget": ["--forget-class=7"], "export": ["--forget-class=7"]}
SMALL = {"runs": 384, "target_steps": 250, "hypernet_steps": 700, "max_retain_gap": 0.06, "max_forget_gap": 0.05}
LOOSE = {"max_forget_gap": 1, "max_retain_gap": 1, "max_forget_distance": 1}
TINY = {"runs": 16, "train_steps": 10, "checkpoints": 2, "reference_runs": 1}
NOWHERE = "http://me:secret@127.0.0.1:9"  # nothing listens there


@contextmanager
def tracking(uri: str) -> Iterator[None]:
    """The store of this process, for a block."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def store_in(folder: Path) -> Iterator[mlflow.MlflowClient]:
    """A store in a folder, mlflow.db and artifacts/, for this process and those it starts; it has an experiment of its own.

    By the environment: what `mlflow.set_experiment` sets would stay set in other stores, too.
    """
    with tracking(f"sqlite:///{folder}/mlflow.db"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("test", artifact_location=str(folder / "artifacts")))
        yield mlflow.MlflowClient()


def run(name: str, *words: str) -> Result:
    """An entry point's command, in this process."""
    return CliRunner().invoke(importlib.import_module(f"projects.{name.replace('-', '_')}").command, words)


def run_body(body: Any, *words: str) -> Result:
    """A command that does nothing else, in this process."""

    @click.command()
    @entry_point
    def command() -> None:
        body()

    return CliRunner().invoke(command, words)


def script(body: str) -> list[str]:
    """A command of this body, to be run by itself."""
    lines = ["import click, logging, mlflow, sys, warnings", "from hf_mlops.registry.store import hasten"]
    lines += ["from projects.command import entry_point", "@click.command()", "@entry_point", "def command():"]
    return [sys.executable, "-c", "\n".join([*lines, textwrap.indent(textwrap.dedent(body), "    "), "command()"])]


def environment(uri: str, **variables: str) -> dict[str, str]:
    return {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT), **variables}


def options_of(parameters: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]


def barely_trained(folder: Path) -> Store:
    """A store in a folder, with a hypernetwork that has learnt next to nothing."""
    store = Store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, options in (("targets", TINY), ("hypernet", {"train_steps": 20, **LOOSE})):
            done = store.in_process(name, *options_of(options))
            assert done.exit_code == 0, done.output
    return store


class Store:
    """An MLflow store, by default a database in a folder, and `mlflow run` on it, which is typed in that folder."""

    def __init__(self, folder: Path, uri: str = ""):
        self.folder = folder
        self.uri = uri or f"sqlite:///{folder}/mlflow.db"
        self.environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri, "PYTHONUNBUFFERED": "1"}

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def command(self, entry_point: str, **parameters: object) -> list[str]:
        options = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        return ["mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *options]

    def run(self, entry_point: str, **parameters: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(entry_point, **parameters),
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=500,
        )

    def in_process(self, entry_point: str, *words: str) -> Result:
        """An entry point's command, run in this process, which saves ten seconds of imports."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with tracking(self.uri), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return run(entry_point, *words)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def refusal(self, entry_point: str, **parameters: object) -> str:
        """What an entry point's command says as it refuses."""
        done = self.in_process(entry_point, *options_of(parameters))
        assert isinstance(done.exception, SystemExit), done.exception  # anything else would be a traceback
        assert done.exit_code != 0
        return done.stderr

    def state(self) -> tuple[list[tuple[str, int]], dict[str, str]]:
        """Every registered version and alias."""
        models = self.client.search_registered_models()
        versions = [(v.name, int(v.version)) for m in models for v in self.client.search_model_versions(f"name = '{m.name}'")]
        aliases = {f"{m.name}@{alias}": version for m in models for alias, version in m.aliases.items()}
        return sorted(versions), aliases


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Absent())
"""  # None in sys.modules would stand for them less well: SciPy takes it for a module


def without(absent: tuple[str, ...], code: str, **options: Any) -> str:
    """What Python prints for this code where these packages are not installed."""
    command = [sys.executable, "-c", ABSENT.format(absent=absent) + code]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
