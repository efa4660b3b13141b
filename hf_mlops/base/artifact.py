"""What a stage leaves on disk: a safetensors file, and JSON that describes and seals it. No pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hf_mlops.base.errors import DamagedArtifact, OutOfReach
from hf_mlops.base.tensor_file import LARGEST, require_kept, require_size

Array = NDArray[Any]

MADE_BY = {
    "population": "targets",
    "hypernetwork": "hypernet",
    "reference": "hypernet",
    "sampler": "hypernet",
}  # file: entry point
LARGEST_OF = {"population": 1 << 36, "rows": 1 << 36, "training": 1 << 34}  # bytes of a file, by name; others: `LARGEST`
LARGEST_JSON = 1 << 24  # bytes
FORMAT = 8  # of what is written; to be raised when a file of before would be read wrongly


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes or of a file."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    with data.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory that appears at `path`, replacing what was there, only if the block ends without an error."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except (OSError, SafetensorError) as error:
        raise OutOfReach(f"could not write {path}: {error}; nothing was kept") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def whole_file(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, that appears at `path` whole or not at all, replacing what was there."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutOfReach(f"could not write {path}: {error}; nothing was kept") from error
    finally:
        with suppress(OSError):  # of a folder that is none
            partial.unlink()


def write(directory: Path, name: str, arrays: Mapping[str, Array], about: dict[str, Any]) -> None:
    """Writes `name`.safetensors and `name`.json, the latter with the format and the digest of the former."""
    file = directory / f"{name}.safetensors"
    save_file({key: np.asarray(array, order="C") for key, array in arrays.items()}, file)
    text = json.dumps({**about, "format": FORMAT, "sha256": sha256(file)}, indent=1)
    (directory / f"{name}.json").write_text(text)


def read(directory: Path, name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Reads what `write` wrote.

    Raises:
        DamagedArtifact: a missing, truncated or altered file, one of another format, or one that holds more than such a file
            may, by its header.
    """
    file = Path(directory) / f"{name}.safetensors"
    try:
        about = _described(file.with_suffix(".json"))
        written = about.pop("format", 1)
        if written != FORMAT:
            again = f"run `mlflow run . -e {MADE_BY[name]}`" if name in MADE_BY else "run what made it"
            raise DamagedArtifact(f"{file} has format {written}; allowed: {FORMAT}: {again} again")
        require_kept(file, LARGEST_OF.get(name, LARGEST))
        require_digest(file, sha256(file), about.pop("sha256"), "its JSON")
        return load_file(file), about
    except (OSError, KeyError, UnicodeDecodeError, RecursionError, json.JSONDecodeError, SafetensorError) as error:
        raise DamagedArtifact(f"{file} and its JSON cannot be read: {error!r}") from error


def _described(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    require_size(file, LARGEST_JSON)
    about = json.loads(file.read_text())
    if not isinstance(about, dict):
        raise DamagedArtifact(f"{file} holds {type(about).__name__}; allowed: a JSON object")
    return about


def require_digest(file: Path, found: str, sealed: str, where: str) -> None:
    """Holds the digest of a file against that which was noted when it was written.

    Raises:
        DamagedArtifact: it is another; says where the first one is noted.
    """
    if found != sealed:
        raise DamagedArtifact(f"{file} is truncated or was altered: its SHA-256 is {found}, {where} says {sealed}")


def joined(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays of several parts under one name each, of the part and their own: `signal.spread`."""
    return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


def parted(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was `joined`, by part again; one without arrays is not there."""
    parts: dict[str, dict[str, Any]] = {}
    for key, array in arrays.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = array
    return parts


def arrays_of(part: Any) -> dict[str, Array]:
    """The arrays that a dataclass holds, by the names of its fields; tensors of torch as such, too."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: np.asarray(value) for name, value in values.items() if not isinstance(value, str)}


def as_json(value: Any) -> Any:
    """A value as it is after a round trip through JSON (tuples become lists)."""
    return json.loads(json.dumps(value))
