"""The code that makes a result: the package's own source, by room, and the libraries that compute."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# what results come from, from below; registry and steps only carry them, report and projects only show them
FLOORS = (("base",), ("compute", "serving"), ("data",), ("population",), ("hypernet",), ("audit", "export"))
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "mlflow")

PACKAGE = Path(__file__).parent.parent


@cache
def source_digest(room: str = "", also: tuple[str, ...] = ()) -> str:
    """First 16 hex digits of the SHA-256 over source files of the package.

    Args:
        room: files of this room's floor and of those under it; empty: all files.
        also: further files, from the package's folder on: `steps/forget.py`.
    """
    rooms = [name for floor in FLOORS[: _floor(room) + 1] for name in floor] if room else ["."]
    files = {file for name in rooms for file in (PACKAGE / name).rglob("*.py")} | {PACKAGE / name for name in also}
    sha = hashlib.sha256()
    for file in sorted(files):
        sha.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]


def _floor(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def library_versions() -> dict[str, str]:
    """The installed versions of `LIBRARIES`; empty of one that is not there, as torch need not be for a request."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
