"""Randomness: every stream has a key of its own, by what it is for, and what a sample is made of is defined without torch."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**62  # of those that a user gives, from 0
SEEDS = f"a whole number from 0 to {MAX_SEED}"


def is_seed(value: object) -> bool:
    """Whether a value is one of `SEEDS`."""
    return isinstance(value, int) and 0 <= value <= MAX_SEED


def seed_of(*purpose: str | int) -> int:
    """128 bits of the SHA-256 of what a stream is for: `seed_of("retrain", 0, 3)`. No two purposes share one."""
    return int.from_bytes(hashlib.sha256(json.dumps(purpose).encode()).digest()[:16], "little")


def torch_seed_of(*purpose: str | int) -> int:
    """The same for torch's generator of the CPU, which keeps 32 bits of a seed: two purposes share one by a chance of 2⁻³²."""
    return seed_of(*purpose) % 2**32


def generator_of(seed: int) -> np.random.Generator:
    """NumPy's generator with this key, on Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3")."""
    return np.random.Generator(np.random.Philox(key=seed))


class SampleNoise:
    """All that chance decides of one sample: Philox's counter under a key, and arithmetic that any library can repeat.

    The stream is a sequence of 64-bit words. One chooses among n by its leading bits: floor(n * word / 2⁶⁴). Two, cut to 53
    bits and divided by 2⁵³, are u and v, and give sqrt(-2 log(1 - u)) times cos and sin of 2 pi v (Box and Muller), in float64.

    Args:
        seed: of the sample, from 0 to `MAX_SEED`.
    """

    def __init__(self, seed: int):
        self._words = np.random.Philox(key=seed_of("sample", seed))

    def choose(self, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        return int(self._words.random_raw()) * count >> 64

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal noise, drawn on from where the stream is."""
        count = int(np.prod(shape))
        u, v = (self._words.random_raw(count + count % 2) >> np.uint64(11)).reshape(-1, 2).T * 2.0**-53
        radius, angle = np.sqrt(-2 * np.log1p(-u)), 2 * np.pi * v
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        return pairs.reshape(-1)[:count].astype(np.float32).reshape(shape)
