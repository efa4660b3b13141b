"""What a command is run in: where it was typed, what it may be asked for, and nothing left over."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
from commands import (
    ENTRY_POINTS,
    NEEDED,
    NOWHERE,
    ROOT,
    TINY,
    environment,
    options_of,
    run,
    run_body,
    script,
    tracking,
)
from mlflow.projects._project_spec import load_project

import projects.command
from hf_mlops import Dataset
from hf_mlops.base.errors import BadRequest, OutOfReach
from projects import options
from projects.main import default_spec


@pytest.fixture
def nowhere() -> Iterator[None]:
    with tracking(NOWHERE):
        yield


@pytest.fixture
def in_memory() -> Iterator[None]:
    with tracking("sqlite://"):
        yield


# without a store or a network


@pytest.mark.parametrize("name", [*ENTRY_POINTS, "poison-demo"])
def test_help_and_dry_run_need_neither_store_nor_network(name: str, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = []

    def refuse(*arguments: object) -> None:
        connections.append(arguments)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(name, "--help").exit_code == 0
    done = run(name, "--dry-run", *NEEDED.get(name, []))
    assert done.exit_code == 0 and json.loads(done.stdout)
    assert not connections
    assert run(name, *NEEDED.get(name, [])).exit_code == OutOfReach.status and connections


def test_help_comes_quickly(tmp_path: Path) -> None:
    started = time.monotonic()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": NOWHERE, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "projects.main", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and "--forget-class" in done.stdout
    assert time.monotonic() - started < 60
    assert not list(tmp_path.iterdir())


# where a command works


@pytest.fixture
def typed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that `mlflow run` was typed in; this process is in the project's, as its commands are."""
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as started:
        monkeypatch.setattr(projects.command, "STARTED_BY", psutil.Process(started.pid))
        monkeypatch.chdir(ROOT)
        yield tmp_path
        started.kill()


def test_a_command_works_where_mlflow_run_was_typed(typed_in: Path, in_memory: None) -> None:
    (typed_in / "module_of_mine.py").write_text("where = __file__")
    (typed_in / "projects.py").write_text("raise AssertionError('the project is not looked for here')")
    before = list(sys.path)

    def body() -> None:
        from projects import options as found

        assert found is options
        print(Path.cwd(), importlib.import_module("module_of_mine").where, Path("x").absolute())

    done = run_body(body)
    assert done.stdout.split() == [str(typed_in), str(typed_in / "module_of_mine.py"), str(typed_in / "x")], done.exception
    assert Path.cwd() == ROOT and sys.path == before


def test_a_command_that_was_started_elsewhere_stays_there(
    typed_in: Path, in_memory: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert run_body(lambda: print(Path.cwd())).stdout.strip() == str(elsewhere)


def test_paths_are_taken_from_where_mlflow_run_was_typed_and_noted_in_full(typed_in: Path) -> None:
    words = ["--dataset=folder:photos", "--data-dir=data", "--dry-run"]
    targets = json.loads(run("targets", *words).stdout)
    assert (targets["dataset"], targets["data_dir"]) == (f"folder:{typed_in}/photos", f"{typed_in}/data")
    forget = json.loads(run("forget", *words, "--forget-class=cat", "--start=now.onnx").stdout)
    assert (forget["dataset"], forget["data_dir"]) == (f"folder:{typed_in}/photos", f"{typed_in}/data")
    assert forget["sample"]["start"] == f"{typed_in}/now.onnx"
    assert json.loads(run("main", "--dry-run", "--store=chunks").stdout)["engine"]["store"] == f"{typed_in}/chunks"
    registered = run("forget", "--dry-run", "--forget-class=cat", "--start=models:/x@y").stdout
    assert json.loads(registered)["sample"]["start"] == "models:/x@y"
    left_out = json.loads(run("evaluate", "--dry-run").stdout)
    assert (left_out["dataset"], left_out["data_dir"]) == ("", "")


def test_a_file_of_groups_is_taken_from_there_too_with_what_is_laid_on_top_of_it(typed_in: Path) -> None:
    for given, noted in (
        ("who.csv", f"{typed_in}/who.csv"),
        ("who.parquet+poison:flip:0.3", f"{typed_in}/who.parquet+poison:flip:0.3"),
        ("shard:20", "shard:20"),
        ("class+poison:patch:0.05", "class+poison:patch:0.05"),
    ):
        assert json.loads(run("targets", "--dry-run", f"--groups={given}").stdout)["groups"] == noted


def test_a_network_that_is_not_there_is_said_to_be_looked_for_where_mlflow_run_was_typed(
    typed_in: Path, in_memory: None
) -> None:
    done = run("targets", "--architecture=absent_nets:make")
    assert done.exit_code == BadRequest.status
    assert f"(looked in {typed_in} and among the installed packages)" in done.stderr


# what a command may be asked for


@pytest.mark.parametrize(
    "words", [["--forget-class=7"], ["--forget=7"], ["--forget-class=7", "--forget="], ["--forget=7", "--forget-class=7"]]
)
def test_what_to_forget_has_two_names(words: list[str]) -> None:
    assert json.loads(run("forget", "--dry-run", *words).stdout)["forget_class"] == "7"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--forget=7", "--forget-class=3"], "forget_class and its second name, forget, say '3' and '7'; allowed: one of them"),
        ([], "forget_class, or forget, must name what to forget"),
        (["--forget-class=", "--forget= "], "forget_class, or forget, must name what to forget"),
    ],
)
@pytest.mark.parametrize("name", ["forget", "export"])
def test_what_to_forget_must_be_said_and_in_one_way(name: str, words: list[str], error: str) -> None:
    done = run(name, "--dry-run", *words)
    assert done.exit_code == 2 and error in " ".join(done.stderr.split())


@pytest.mark.parametrize(("text", "number"), [("8.0", 8), ("8", 8), ("1e1", 10), ("12.", 12)])
def test_a_whole_number_may_be_written_with_a_point(text: str, number: int) -> None:
    asked = json.loads(run("forget", "--dry-run", "--forget-class=7", "--n-samples", text, "--seed", text).stdout)
    assert (asked["sample"]["n"], asked["sample"]["seed"]) == (number, number)
    assert json.loads(run("targets", "--dry-run", "--runs", text).stdout)["population"]["runs"] == number


@pytest.mark.parametrize("text", ["8.5", "nan", "inf", "1e99", "many", "0x8"])
def test_another_number_is_refused_in_a_line_that_says_so(text: str) -> None:
    for name, option in (("forget", "--n-samples"), ("targets", "--runs")):
        done = run(name, "--dry-run", *NEEDED.get(name, []), option, text)
        assert done.exit_code == 2 and f"{text!r} is not allowed; allowed: a whole number" in done.stderr
    assert "0 is not in the range" in run("forget", "--dry-run", "--forget-class=7", "--n-samples=0.0").stderr


def test_mlproject_and_its_commands_take_a_whole_number_with_a_point() -> None:
    words = shlex.split(
        load_project(str(ROOT)).get_entry_point("forget").compute_command({"forget_class": "7", "seed": "8.0"}, None)
    )
    assert json.loads(run("forget", *words[3:], "--dry-run").stdout)["sample"]["seed"] == 8


def test_what_is_forgotten_goes_without_saying_only_for_digits(digits: Dataset, tmp_path: Path) -> None:
    assert default_spec(digits) == "7"
    with pytest.raises(BadRequest, match=r"forget_class must say what mnist is to forget; allowed: 0, 1, 2, .*, 9, several"):
        default_spec(replace(digits, name="mnist"))
    images, labels = digits.test.images[:, 0].numpy(), digits.test.labels.numpy()
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    refused = run("main", "--dry-run", "--dataset", f"npz:{tmp_path}/mine.npz")
    assert (
        refused.exit_code == BadRequest.status and f"what npz:{tmp_path}/mine.npz is to forget; allowed: 0, " in refused.stderr
    )
    asked = run("main", "--dry-run", "--dataset", f"npz:{tmp_path}/mine.npz", "--forget-class=3")
    assert json.loads(asked.stdout)["forget_class"] == "3"
    assert json.loads(run("main", "--dry-run").stdout)["forget_class"] == "7"


@pytest.mark.parametrize(("groups", "components"), [("", 64), ("shard:2", 256)])
def test_the_recipe_depends_on_whether_groups_are_classes(
    groups: str, components: int, digits: Dataset, tmp_path: Path
) -> None:
    np.savez(tmp_path / "mine.npz", images=digits.test.images[:, 0].numpy(), labels=digits.test.labels.numpy())
    words = ["--dry-run", "--dataset", f"npz:{tmp_path}/mine.npz", "--groups", groups]
    for done in (run("hypernet", *words), run("main", *words, "--forget-class", "customer 1" if groups else "3")):
        assert json.loads(done.stdout)["hypernet"]["components"] == components


# what a command leaves, and what becomes of it without `mlflow run`


@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_a_temporary_file_of_a_command_goes_with_it_after_an_error_too(words: list[str], in_memory: None) -> None:
    made = []

    def body() -> None:
        made.append(Path(tempfile.mkdtemp()))
        (made[0] / "model").touch()
        raise BadRequest("no") if words else SystemExit(0)

    assert run_body(body, *words).exit_code == (BadRequest.status if words else 0)
    assert made and not made[0].exists() and not made[0].parent.exists()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    temporary, loose = tmp_path / "temporary", ["--max-forget-gap=1", "--max-retain-gap=1"]
    temporary.mkdir()
    variables = environment(f"sqlite:///{tmp_path}/mlflow.db", TMPDIR=str(temporary))
    for name, words in [
        ("targets", options_of(TINY)),
        ("hypernet", ["--train-steps=20", *loose]),
        ("forget", ["--forget-class=7", "--n-samples=2", *loose]),
    ]:
        command = [sys.executable, "-m", f"projects.{name}", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not list(temporary.iterdir()), name


def test_a_command_whose_mlflow_run_has_ended_during_its_imports_is_interrupted(tmp_path: Path) -> None:
    body = """
        print("begun", flush=True)
        import time
        time.sleep(30)
        print("done")
        """
    ended = "import psutil, subprocess, projects; ended = subprocess.Popen(['true'], start_new_session=True)\n"
    ended += "projects.STARTED_BY = psutil.Process(ended.pid); ended.wait()\n"
    ended += "import tempfile, time; made = tempfile.mkdtemp\n"
    ended += "tempfile.mkdtemp = lambda **words: (made(**words), time.sleep(0.5))[0]\n"  # it would be left
    python, option, code = script(body)
    done = subprocess.run(
        [python, option, ended + code], capture_output=True, text=True, env=environment("sqlite://", TMPDIR=str(tmp_path))
    )
    assert done.returncode == 130 and "interrupted: nothing is half-made" in done.stderr and "done" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_onnxruntime_sends_no_reports(tmp_path: Path) -> None:
    code = "import projects, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    variables = environment("sqlite://", TMPDIR=str(tmp_path))
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.stdout.strip() == "1" and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_its_mlflow_run_and_has_worked_where_that_was_typed(tmp_path: Path, number: signal.Signals) -> None:
    """With a network of the directory it was typed in, and relative paths of the chunk store and the database."""
    network = (
        "from torch import nn\n\ndef make(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    (tmp_path / "mynets.py").write_text(network)
    (tmp_path / "temporary").mkdir()
    parameters = {**TINY, "runs": "512.0", "train_steps": 2000, "architecture": "mynets:make", "store": "chunks"}
    words = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    with subprocess.Popen(
        ["mlflow", "run", str(ROOT), "-e", "targets", "--env-manager", "local", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment("sqlite:///own.db", TMPDIR=str(tmp_path / "temporary")),
        cwd=tmp_path,
    ) as started:
        assert started.stdout is not None
        lines = []
        for line in started.stdout:  # until the last process that writes to it has ended
            lines.append(line)
            if line.startswith("population: ") and started.poll() is None:
                (command,) = (
                    p for p in psutil.Process(started.pid).children(recursive=True) if "projects.targets" in p.cmdline()
                )
                started.send_signal(number)
        ended = time.monotonic()
    assert not command.is_running() or time.monotonic() - ended < 5
    assert "interrupted: nothing is half-made" in lines[-1], "".join(lines)
    assert (tmp_path / "chunks").is_dir() and not files_in(tmp_path / "temporary")
    (run,) = mlflow.MlflowClient(f"sqlite:///{tmp_path}/own.db").search_runs(["0"])
    assert run.info.status == "KILLED" and run.data.params["targets.runs"] == "512"


@pytest.mark.parametrize("name", ["main", "targets"])
def test_a_population_for_production_holds_no_pairs_out(name: str) -> None:
    asked = [json.loads(run(name, "--dry-run", f"--held-out-pairs={text}").stdout)["population"] for text in ("0", "")]
    assert [one["held_out_pairs"] for one in asked] == [0, 0.2]
    refused = run(name, "--dry-run", "--held-out-pairs=0.6")
    assert refused.exit_code == 2 and "0.6 is not in the range 0<=x<=0.5" in refused.stderr
