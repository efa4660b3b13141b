"""Safetensors files: what is in one is bounded by its header before a tensor is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open

from hf_mlops.base.errors import DamagedArtifact

LARGEST = 1 << 30  # bytes of a file, where nothing else is said
LARGEST_HEADER = 1 << 20  # bytes: room for some ten thousand tensors; the format would take a hundred times that
DIMENSIONS = 8
KEPT = {  # dtypes of files of this package: those that NumPy has
    **{"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"},
    **{f"{short}{bits}": f"{long}{bits}" for short, long in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}


class Held(NamedTuple):
    """What a file says that it holds: `F32` and (16, 64)."""

    dtype: str
    shape: tuple[int, ...]


def require_size(file: Path, largest: int) -> None:
    """Refuses a file that is too large to be opened.

    Raises:
        DamagedArtifact: it has more bytes than that.
        OSError: there is none.
    """
    if (size := file.stat().st_size) > largest:
        raise DamagedArtifact(f"{file} has {size} bytes; allowed: up to {largest}")


def header_of(file: Path, largest: int = LARGEST) -> dict[str, Held]:
    """The tensors of a file by name, of which none has been read; the format has them fill the file to the byte.

    Args:
        largest: bytes that the file may have.

    Raises:
        DamagedArtifact: it has more, a header of more than `LARGEST_HEADER`, or a tensor of more than `DIMENSIONS`.
        OSError, SafetensorError: there is none, or it breaks the format.
    """
    require_size(file, largest)
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > LARGEST_HEADER:
        raise DamagedArtifact(f"{file} has a header of {length} bytes, if it is safetensors; allowed: up to {LARGEST_HEADER}")
    with safe_open(file, "numpy") as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        held = {name: Held(part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    for name, tensor in held.items():
        if len(tensor.shape) > DIMENSIONS:
            raise DamagedArtifact(f"{file}: {name} has {len(tensor.shape)} dimensions; allowed: up to {DIMENSIONS}")
    return held


def require_kept(file: Path, largest: int = LARGEST) -> None:
    """Holds the header of a file of this package against what such files hold; raises as `header_of`, and:

    Raises:
        DamagedArtifact: a dtype that is not in `KEPT`.
    """
    for name, tensor in header_of(file, largest).items():
        if tensor.dtype not in KEPT:
            raise DamagedArtifact(f"{file}: {name} is of {tensor.dtype}; allowed: {', '.join(KEPT)}")
