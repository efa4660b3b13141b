"""Tensors on disk, as `base.artifact` keeps arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_mlops.base import artifact


def write_tensors(directory: Path, name: str, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Writes `name`.safetensors and `name`.json: see `artifact.write`."""
    artifact.write(directory, name, {key: tensor.detach().cpu().numpy() for key, tensor in tensors.items()}, about)


def read_tensors(directory: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write_tensors` wrote, as tensors on the CPU; raises as `artifact.read`."""
    arrays, about = artifact.read(directory, name)
    return {key: torch.from_numpy(array) for key, array in arrays.items()}, about
