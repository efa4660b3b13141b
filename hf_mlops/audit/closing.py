"""Closing: how far a loss has gone from what it is of classifiers that forgot nothing to what it is of retrained ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from jaxtyping import Float

SCALE = 1.5  # times as far from retrained ones as these from each other must be who forgot nothing, or no distance is told


@dataclass(frozen=True)
class Way:
    """Between two mean losses, nats.

    Args:
        before: of classifiers that forgot nothing; infinite if they mask a class.
        after: of retrained ones.
        spread: root mean square of how far that of each retrained one is from the mean of the others.
    """

    before: float
    after: float
    spread: float

    @classmethod
    def between(cls, unforgotten: Float[Any, " originals"], retrained: Float[Any, " targets"]) -> Way:
        """The way between the losses of each, of two retrained ones or more."""
        count, after = len(retrained), retrained.mean()
        spread = float(((retrained - after) ** 2).mean()) ** 0.5 * count / (count - 1)
        return cls(float(unforgotten.mean()), float(after), spread)

    @property
    def exists(self) -> bool:
        """Whether there is anything between its ends."""
        return isfinite(self.before) and self.before != self.after

    @property
    def counts(self) -> bool:
        """Whether it is so long that where a loss lies on it says something."""
        return isfinite(self.before) and abs(self.after - self.before) > SCALE * self.spread

    def gone(self, loss: float) -> float:
        """Where a loss lies on it: 0 as before, 1 as retrained."""
        return (loss - self.before) / (self.after - self.before)
