"""What a stage leaves on disk: a safetensors file, and JSON that describes and seals it. No pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Config = TypeVar("Config")


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
        raise OSError(f"could not write {path}: {error}; nothing was kept") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(directory: Path, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Writes `name`.safetensors and `name`.json, the latter with the digest of the former."""
    file = directory / f"{name}.safetensors"
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, file)
    text = json.dumps({**about, "sha256": sha256(file)}, indent=1)
    (directory / f"{name}.json").write_text(text)


def read(directory: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write` wrote.

    Raises:
        ValueError: a missing, truncated or altered file.
    """
    file = Path(directory) / f"{name}.safetensors"
    try:
        about = json.loads(file.with_suffix(".json").read_text())
        found, sealed = sha256(file), about.pop("sha256")
        if found != sealed:
            raise ValueError(f"{file} is truncated or was altered: its SHA-256 is {found}, its JSON says {sealed}")
        return load_file(file), about
    except (OSError, KeyError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"{file} and its JSON cannot be read: {error!r}") from error


def check_config(config: Any, rules: dict[str, tuple[Callable[[Any], bool], str]]) -> None:
    """Holds each named field of a configuration against its rule: (test, what is allowed).

    Raises:
        ValueError: names the field, its value and what is allowed.
    """
    for name, (allowed, words) in rules.items():
        value = getattr(config, name)
        if not allowed(value):
            raise ValueError(f"{name} = {value!r} is not allowed; allowed: {words}")


def config_from(kind: type[Config], values: dict[str, Any]) -> Config:
    """The configuration dataclass from its JSON form (lists become tuples again)."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names})


def as_json(value: Any) -> Any:
    """A value as it is after a round trip through JSON (tuples become lists)."""
    return json.loads(json.dumps(value))
