"""What a set of forgotten groups is to the regressions of losses and of weights."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Bool, Float

from hf_mlops.base.coverage import depletion, scarcity

PAIR_SCALE = 0.3  # of the features of pairs: the smaller, the more a ridge regression needs to believe in one
RUNS_A_PAIR = 4  # with fewer a regression on pairs learns the chance of runs by heart


def tells_pairs(groups: int, runs: int) -> bool:
    """Whether so many runs can tell what it does to forget two groups together, for any two of so many."""
    return groups * (groups - 1) // 2 * RUNS_A_PAIR <= runs


def set_features(
    forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"], pairs: Bool[Any, ""]
) -> Float[Any, "rows features"]:
    """Which groups are forgotten, the `scarcity` of classes, and which pairs are forgotten or, without pairs, the `depletion`.

    Groups 0 and 2 of three that are classes: 1, -1, 1, then 0, 0.3, 0 for the pairs 0-1, 0-2, 1-2.
    """
    xp = array_namespace(forgotten)
    singles = xp.astype(forgotten, xp.float32)
    parts = [2 * singles - 1, scarcity(forgotten, holds)]
    if pairs:
        parts += [PAIR_SCALE * singles[:, first : first + 1] * singles[:, first + 1 :] for first in range(singles.shape[1])]
    else:
        parts.append(depletion(forgotten, holds))
    return xp.concat(parts, axis=1)
