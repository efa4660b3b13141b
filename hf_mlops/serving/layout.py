"""The layout of a classifier's generated weights as a flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save

from hf_mlops.base.artifact import Array

IN_MODULE = "network."  # what the names of parameters begin with behind the input's normalisation, and so in ONNX


def unflatten(weights: Float[Any, "*batch params"], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Weights to the tensors of a state dict; each a view with the same leading dimensions."""
    state, first = {}, 0
    for name, shape in shapes.items():
        state[name] = weights[..., first : first + prod(shape)].reshape(weights.shape[:-1] + shape)
        first += prod(shape)
    return state


def named_in_module(state: Mapping[str, Any]) -> dict[str, Any]:
    """A network's state dict under the names that ONNX models have: behind `network.`."""
    return {IN_MODULE + name: tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Layout:
    """What a network holds.

    Args:
        shapes: of the generated parameters, in the order in which they are flattened.
        shared: all else: every classifier has the same values of it.
    """

    shapes: dict[str, tuple[int, ...]]
    shared: dict[str, Array]

    @property
    def size(self) -> int:
        """Weights of a classifier."""
        return sum(prod(shape) for shape in self.shapes.values())

    def state_bytes(self, weights: Float[np.ndarray, " params"]) -> bytes:
        """The safetensors file of the complete state dict of one classifier."""
        return save(
            {name: np.asarray(one, order="C") for name, one in {**self.shared, **unflatten(weights, self.shapes)}.items()}
        )
