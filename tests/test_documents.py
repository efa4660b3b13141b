"""README, MLproject, conda.yaml and pyproject.toml say the same, and what README shows runs."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import click
import onnxruntime
import pytest
import yaml
from mlflow.projects._project_spec import load_project
from packaging.requirements import Requirement

from hf_mlops import Dataset
from projects import (
    deployed,
    doctor,
    evaluate,
    export,
    forget,
    hypernet,
    main,
    poison_demo,
    promote,
    requests,
    retention,
    rollback,
    targets,
    withdraw,
)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "docs" / "example.py"
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
COMMANDS = {
    "main": main.command,
    "targets": targets.command,
    "hypernet": hypernet.command,
    "forget": forget.command,
    "evaluate": evaluate.command,
    "export": export.command,
    "poison-demo": poison_demo.command,
    "requests": requests.command,
    "doctor": doctor.command,
    "deployed": deployed.command,
    "promote": promote.command,
    "rollback": rollback.command,
    "retention": retention.command,
    "withdraw": withdraw.command,
}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_conda_yaml_pins_each_requirement_within_its_range_and_at_its_newest_where_the_range_says_which() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (needed,) = re.findall(r"^dependencies = \[\n(.+?)^\]", text, re.MULTILINE | re.DOTALL)
    (trained,) = re.findall(r"^train = \[\n(.+?)^\]", text, re.MULTILINE | re.DOTALL)
    ranges = [Requirement(line) for line in re.findall(r'^  "(.+)",$', trained + needed, re.MULTILINE)]
    python, pip, packages = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    pins = [Requirement(line) for line in packages["pip"]]
    assert (python, pip) == ("python=3.11", "pip")
    assert [pin.name for pin in pins] == [wanted.name for wanted in ranges] and len(pins) > 20
    for pin, wanted in zip(pins, ranges, strict=True):
        (exact,) = pin.specifier
        assert exact.operator == "==" and exact.version in wanted.specifier, wanted
        assert [end.operator for end in wanted.specifier if end.operator.startswith(">")] == [">="], wanted
        (newest,) = (end for end in wanted.specifier if end.operator.startswith("<"))
        assert newest.operator == "<" or newest.version == exact.version, wanted


@pytest.mark.parametrize("name", COMMANDS)
def test_mlproject_passes_every_parameter_to_an_option_with_the_same_default(name: str) -> None:
    entry = PROJECT["entry_points"][name]
    options = {
        called.removeprefix("--"): option
        for option in COMMANDS[name].params
        if isinstance(option, click.Option)
        for called in option.opts
    }
    options = {name: option for name, option in options.items() if name not in ("dry-run", "debug")}
    passed = dict(re.findall(r"--([\w-]+) \{(\w+)\}", entry["command"]))
    assert entry["command"].startswith(f"python -m projects.{name.replace('-', '_')} ")
    assert set(passed) == set(options) and set(passed.values()) == set(entry["parameters"])
    for option, parameter in passed.items():
        assert parameter == option.replace("-", "_")
        default = "" if options[option].multiple else options[option].default
        assert str(entry["parameters"][parameter]["default"]) == str(default)


@pytest.mark.parametrize("name", [name for name in COMMANDS if "dataset" in PROJECT["entry_points"][name]["parameters"]])
def test_paths_with_spaces_and_parameters_left_out_come_through_mlflow_run(name: str) -> None:
    given = {"dataset": "folder:/my 'photos'", **({"forget_class": "cat"} if name == "forget" else {})}
    words = shlex.split(load_project(str(ROOT)).get_entry_point(name).compute_command(given, None))
    parameters = COMMANDS[name].make_context(name, words[3:]).params
    assert parameters["dataset"] == given["dataset"] and parameters["data_dir"] == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    assert set(COMMANDS) == set(PROJECT["entry_points"])
    assert COMMANDS[name].help
    for option in COMMANDS[name].params:
        assert isinstance(option, click.Option) and option.help, option.name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    install, tests = code_blocks("sh")[1].strip().rsplit(" && ", 1)
    gate = (ROOT / ".ci" / "run").read_text().splitlines()
    assert install in gate and tests in gate


@pytest.mark.slow
def test_the_example_ends_with_a_file_that_cannot_recognise_a_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: Dataset
) -> None:
    monkeypatch.chdir(tmp_path)
    figures = runpy.run_path(str(EXAMPLE))["figures"]
    assert figures["forget_accuracy"] <= 0.01
    assert figures["retain_accuracy"] > figures["reference_retain_accuracy"] - 0.02
    session = onnxruntime.InferenceSession("exported/example.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["forget"] == "7"
    labels = digits.test.labels.numpy()
    right = session.run(None, {"image": digits.test.images.numpy()})[0].argmax(1) == labels
    assert right[labels == 7].mean() == pytest.approx(figures["forget_accuracy"], abs=1e-4)
    assert right[labels != 7].mean() == pytest.approx(figures["retain_accuracy"], abs=1e-4)
    assert f"{right[labels != 7].sum()} of 324 images of other classes are right" in capsys.readouterr().out
    promised = dict(re.findall(r"(\w+_accuracy) (0\.\d{3})\b", EXAMPLE.read_text()))
    assert {name: figures[name] for name in promised} == pytest.approx({k: float(v) for k, v in promised.items()}, abs=0.01)
    assert len(promised) == 3


def test_every_file_that_a_document_names_is_there() -> None:
    named = set()
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        text = document.read_text()
        named |= {document.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)}
        named |= {ROOT / file for file in re.findall(r"`((?:hf_mlops|projects|tests|benchmarks|docs)/[\w/-]+\.\w+)`", text)}
    assert len(named) > 40
    assert not [str(file) for file in named if not file.exists()]


def test_only_registry_and_steps_import_mlflow_and_nothing_in_the_library_imports_click() -> None:
    rooms = {path.relative_to(ROOT / "hf_mlops"): path.read_text() for path in (ROOT / "hf_mlops").rglob("*.py")}
    assert importing("mlflow", rooms) == {"registry", "steps"} and importing("click", rooms) == set()


def importing(package: str, files: dict[Path, str]) -> set[str]:
    """The rooms with a file that imports a package."""
    pattern = re.compile(rf"^\s*(?:import|from) {package}\b", re.MULTILINE)
    return {path.parts[0] for path, text in files.items() if pattern.search(text)}
