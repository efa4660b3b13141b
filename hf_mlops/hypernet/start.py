"""Start weights: whether a classifier is one of those that a hypernetwork can move from."""

from __future__ import annotations

import warnings

from jaxtyping import Float
from torch import Tensor

from hf_mlops.hypernet.spaces import WeightSpace

# `WeightSpace.distances`: on digits the population's own kind is up to 1.5 off, targets of other initialisations 2.4 and more
FARTHEST = 2.0
SOONEST = 0.5  # start time: before it a sample still tells which images production was trained on (benchmarks.worlds)


def warn_of_memory(start_time: float) -> None:
    """Warns where a sample begins so near to start weights that it keeps what they know of single images.

    Warns:
        UserWarning: names the start time, and `SOONEST`.
    """
    if 0 < start_time < SOONEST:
        warnings.warn(
            f"start_time = {start_time:g}: a sample that begins so near to start weights still tells which images of D_f these"
            f" were trained on, even if its accuracy there is 0; from {SOONEST:g} on it does not",
            stacklevel=3,
        )


def warn_of_foreign(space: WeightSpace, start: Float[Tensor, " params"]) -> None:
    """Warns where start weights lie too far from a population to come from its initialisation.

    The denoiser knows weights about the population's mean alone: it takes what else it is given for noise, so that a sample
    moves away from such start weights.

    Warns:
        UserWarning: names their distance, and `FARTHEST`.
    """
    distance = space.distances(start[None]).item()
    if not distance <= FARTHEST:
        warnings.warn(
            f"start weights lie {distance:.1f} times as far from the population's mean as its own targets; usual is up to"
            f" {FARTHEST:g}. Do they come from another initialisation? Then a sample has no reason to stay near them",
            stacklevel=3,
        )
