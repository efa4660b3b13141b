"""The digest of the code that makes a result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tomllib

from hf_mlops.base.source import FLOORS, PACKAGE, source_digest

ROOT = Path(__file__).parent.parent


def test_the_floors_are_those_that_imports_are_held_to() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    floors = [{name.strip().removeprefix("hf_mlops.") for name in layer.split("|")} for layer in reversed(layers)]
    assert [set(floor) for floor in FLOORS] == [
        floor for floor in floors if not floor & {"report", "registry", "steps", "projects"}
    ]


def test_the_digest_of_everything_covers_every_room_and_costs_no_import() -> None:
    code = "import sys; from hf_mlops.base.source import source_digest as d; print(d(), *{'numpy', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == source_digest() and len(source_digest()) == 16
    digests = {source_digest(), *(source_digest(floor[0]) for floor in FLOORS), source_digest("base", ("steps/forget.py",))}
    assert len(digests) == len(FLOORS) + 2 and (PACKAGE / "steps" / "forget.py").exists()
