"""What an entry point refuses, how it says so, and the status that it ends with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import mlflow
import pytest
from click.testing import CliRunner
from commands import (
    NOWHERE,
    ROOT,
    Store,
    environment,
    run,
    run_body,
    script,
    tracking,
)

import projects.command
from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure, OutOfReach
from projects.command import entry_point


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def nowhere() -> Iterator[None]:
    with tracking(NOWHERE):
        yield


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("targets", {"architecture": "resnet-50"}, "architecture = 'resnet-50' is not allowed; allowed: mlp-10, mlp-16"),
        ("targets", {"architecture": "no_such_package:make"}, "'no_such_package:make' does not import: ModuleNotFoundError"),
        (
            "targets",
            {"scope": "fc.*"},
            "'fc.*' matches no parameter; allowed: patterns over 1.weight, 1.bias, 3.weight, 3.bias",
        ),
        ("main", {"scope": "*,"}, "scope = '*,' is not allowed; allowed: patterns joined by commas"),
        (
            "targets",
            {"dataset": "letters"},
            "unknown data set 'letters'; allowed: digits, mnist, fashion-mnist, cifar10, folder:",
        ),
        ("main", {"dataset": "mnist", "data_dir": "/no such"}, "mnist needs these files in /no such: MNIST/raw/train-images"),
        ("hypernet", {"dataset": "folder:/no such"}, "folder:/no such: there is no such folder"),
        ("targets", {"checkpoints": 9, "train_steps": 5}, "checkpoints = 9 is not allowed; allowed: 1 to the number of steps"),
        ("hypernet", {"variant": "dihyfo-3"}, "'dihyfo-3' is not one of 'dihyfo-1', 'dihyfo-2'"),
        ("hypernet", {"width": 30}, "width = 30 is not allowed; allowed: a multiple of"),
        ("hypernet", {}, "run `mlflow run . -e targets` first"),
        ("forget", {"forget_class": "7"}, "run `mlflow run . -e targets` and `mlflow run . -e hypernet` first"),
        ("evaluate", {}, "or `mlflow run .` for the whole path"),
        ("export", {"forget_class": "7"}, "has no model models:/hyperforget-classifier@forget-7"),
        ("main", {"forget_class": "11"}, "unknown group '11'"),
        ("main", {"device": "tpu"}, "'tpu' is not one of"),
    ],
)
def test_an_entry_point_refuses_what_it_cannot_do(empty: Store, name: str, parameters: dict[str, object], message: str) -> None:
    assert message in empty.refusal(name, **parameters)
    assert empty.state() == ([], {})


def test_a_refusal_is_one_line_and_a_status_for_the_shell(empty: Store) -> None:
    words = [sys.executable, "-m", "projects.targets", "--dataset", "letters"]
    done = subprocess.run(words, capture_output=True, text=True, env=empty.environment, cwd=ROOT)
    assert done.returncode == BadRequest.status
    assert done.stderr.startswith("Error: unknown data set 'letters'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "first"),
    [
        (BadRequest("no"), 2, "Error: no"),
        (GateFailure("no"), 3, "Error: no"),
        (DamagedArtifact("no"), 4, "Error: no"),
        (OutOfReach("no"), 5, "Error: no"),
        (OSError(28, "No space left on device"), 5, "Error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted: nothing is half-made"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_each_kind_of_error_has_its_status_and_debug_shows_where_it_was_raised(
    error: BaseException, status: int, first: str, debug: bool
) -> None:
    @click.command()
    @entry_point
    def command() -> None:
        raise error

    result = CliRunner().invoke(command, ["--debug"] * debug)
    shown = debug and status != 130
    assert result.exit_code == status
    assert result.stderr.startswith("Traceback" if shown else first) and first in result.stderr
    assert ("raise error" in result.stderr) == shown


def test_a_fault_of_the_program_is_no_plain_line() -> None:
    @click.command()
    @entry_point
    def command() -> None:
        raise TypeError("unsupported operand")

    assert isinstance(CliRunner().invoke(command).exception, TypeError)


@pytest.mark.parametrize("name", ["targets", "main"])
def test_a_network_in_the_current_directory_is_found_and_checked_before_any_work(
    name: str, empty: Store, tmp_path: Path
) -> None:
    (tmp_path / "mynets.py").write_text("from torch import nn\n\ndef make(shape, classes):\n    return nn.Flatten()\n")
    done = subprocess.run(
        [sys.executable, "-m", f"projects.{name}", "--architecture", "mynets:make"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**empty.environment, "PYTHONPATH": str(ROOT)},
    )
    assert "architecture 'mynets:make' cannot be a target: the network has no parameters" in done.stderr
    assert not empty.client.search_runs(["0"], f"tags.`hf_mlops.step` = '{name}'")  # refused requests are in the log


def test_a_store_that_is_not_there_is_one_line_without_its_password(nowhere: None) -> None:
    done = run("export", "--forget-class=7")
    assert done.exit_code == OutOfReach.status
    assert done.stderr == (
        "Error: no MLflow tracking server answers at http://me:***@127.0.0.1:9 (Connection refused): start it, or set"
        " MLFLOW_TRACKING_URI to one that runs\n"
    )


def test_passwords_are_shown_nowhere(tmp_path: Path) -> None:
    body = f"""
        warnings.warn("of {NOWHERE}")
        logging.getLogger("mlflow.store").warning("no answer from %s", "{NOWHERE}")
        raise mlflow.MlflowException("API request to {NOWHERE} failed")
        """
    words, variables = [*script(body), "--debug"], environment("sqlite://")
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=tmp_path)
    assert done.returncode == OutOfReach.status and "Traceback" in done.stderr
    assert done.stderr.count("http://me:***@127.0.0.1:9") >= 4 and "secret" not in done.stdout + done.stderr


def test_the_addresses_that_mlflow_prints_are_kept_back_where_they_have_a_password(
    nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects.command, "require_store", lambda: None)
    for uri, kept_back in ((NOWHERE, "true"), ("http://127.0.0.1:9", "false")):
        monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")
        mlflow.set_tracking_uri(uri)
        assert run_body(lambda: None).exit_code == 0
        assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"].lower() == kept_back
