"""The house: its rooms import one way only, what needs no torch does not load it, and all of it is in the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import hf_mlops
import projects

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for package in (hf_mlops, projects) for module in walk_packages(package.__path__, f"{package.__name__}.")
)


def python(code: str, folder: Path, **variables: str) -> str:
    """What Python prints for this code, in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources alone, to be changed or built."""
    for name in ("hf_mlops", "projects"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the sources of a folder, by the contracts of its pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_rooms_import_one_way_only() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("hf_mlops/base/spec.py", "hf_mlops.data.dataset", "Imports go one way through the rooms"),
        ("hf_mlops/audit/gates.py", "hf_mlops.export.weights", "Imports go one way through the rooms"),
        ("hf_mlops/population/draw.py", "hf_mlops.population.population", "No circles inside a room"),
        ("hf_mlops/report/pictures.py", "mlflow", "The learning core needs no MLflow, and only commands need click"),
        ("hf_mlops/steps/forget.py", "click", "Steps print, they parse nothing"),
        ("hf_mlops/serving/classifier.py", "torch", "A request needs no torch"),
        ("hf_mlops/data/dataset.py", "torch", "A request needs no torch"),
    ],
)
def test_an_import_against_the_rules_is_found(copy: Path, module: str, imported: str, contract: str) -> None:
    with (copy / module).open("a") as file:
        file.write(f"import {imported}\n")
    done = lint_imports(copy)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


@pytest.mark.parametrize(
    "statement", ["import hf_mlops", "from hf_mlops.base.spec import ForgetSpec", "import hf_mlops.serving.classifier"]
)
def test_neither_the_package_nor_the_request_path_loads_torch(statement: str, tmp_path: Path) -> None:
    heavy = ("torch", "torchvision", "mlflow", "click", "sklearn", "pandas", "matplotlib")
    code = f"import sys\n{statement}\nprint([name for name in {heavy} if name in sys.modules])"
    assert python(code, tmp_path) == "[]"


REQUESTS = ("forget", "export", "requests", "deployed", "rollback", "withdraw", "doctor", "retention")


@pytest.mark.parametrize("command", REQUESTS)
def test_commands_of_requests_load_neither_torch_nor_what_only_training_needs(command: str, tmp_path: Path) -> None:
    heavy = ("torch", "torchvision", "sklearn", "matplotlib", "onnxscript", "ray")
    code = f"import sys\nimport projects.{command}\nprint([name for name in {heavy} if name in sys.modules])"
    assert python(code, tmp_path) == "[]"


def test_data_are_read_without_torch(tmp_path: Path) -> None:
    code = "import sys\nfrom hf_mlops.data.loading import read_dataset\nread_dataset('digits').digest\n"
    assert python(f"{code}print([name for name in ('torch', 'torchvision') if name in sys.modules])", tmp_path) == "[]"


def test_every_public_name_is_there() -> None:
    assert len(hf_mlops.__all__) > 15
    for name in hf_mlops.__all__:
        assert getattr(hf_mlops, name).__module__.startswith("hf_mlops.")


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_hidden_behind_another_object_of_its_name(name: str) -> None:
    module = import_module(name)
    parent, _, own = name.rpartition(".")
    assert getattr(import_module(parent), own) is module


def test_every_module_is_in_the_wheel_and_imports_from_it(copy: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "wheels", "."]
    subprocess.run(build, check=True, cwd=copy)
    (wheel,) = (copy / "wheels").iterdir()
    unpacked = copy / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    code = f"from importlib import import_module\nfor name in {MODULES}: print(import_module(name).__file__)"
    files = python(code, copy / "wheels", PYTHONPATH=str(unpacked)).splitlines()
    assert len(files) == len(MODULES)
    assert all(file.startswith(str(unpacked)) for file in files)
    assert (unpacked / "hf_mlops" / "py.typed").exists() and (unpacked / "hf_mlops" / "__init__.pyi").exists()
