"""Worlds: halves of the training images, each of which everything is trained on anew, to ask what that tells of its images.

Worlds 0 and 1, 2 and 3, … are *pairs*: complementary halves, so that every image is in one of both. A pair is judged by all
the others, and by none of its own two. Were the judged world alone left out, an image that is in it would have one world fewer
to say what members look like, and that by itself would tell members from others: without a leak the area would be below 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import generator_of, seed_of

LEAST = 6  # worlds: beside a pair each image is in two and out of two, and no fewer tell how far worlds are from each other


def halves(labels: Int[Tensor, " images"], worlds: int, seed: int = 0) -> Bool[Tensor, "worlds images"]:
    """Which images each world is trained on: a random half of each class, and in the next world the other half.

    More worlds of the same seed begin with the same ones.

    Args:
        labels: the class of each training image.

    Raises:
        BadRequest: an odd number of worlds, or fewer than `LEAST`.
    """
    _check(worlds)
    members = torch.zeros(worlds, len(labels), dtype=torch.bool)
    for first in range(0, worlds, 2):
        random = generator_of(seed_of("worlds", seed, first))
        for label in labels.unique():
            own = (labels == label).nonzero()[:, 0].numpy()
            half = (len(own) + int(random.integers(2))) // 2  # of an odd number the larger or the smaller
            members[first, torch.from_numpy(random.permutation(own)[:half])] = True
        members[first + 1] = ~members[first]
    return members


def pairs(members: Bool[Tensor, "worlds images"]) -> Iterator[Bool[Tensor, " worlds"]]:
    """The worlds of each pair, to be judged by all others.

    Raises:
        BadRequest: an odd number of worlds, fewer than `LEAST`, or a pair that is not complementary.
    """
    _check(len(members))
    if odd := (members[::2] == members[1::2]).any(1).nonzero().flatten().tolist():
        first = 2 * odd[0]
        raise BadRequest(f"worlds {first} and {first + 1} share images, or lack some; allowed: pairs of complementary halves")
    for pair in range(len(members) // 2):
        yield torch.arange(len(members)) // 2 == pair


def _check(worlds: int) -> None:
    if worlds < LEAST or worlds % 2:
        raise BadRequest(f"worlds = {worlds} is not allowed; allowed: an even number from {LEAST}")
