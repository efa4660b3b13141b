"""The loss signal: what the hypernetwork is told about the classifier wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Bool, Float, Int

from hf_mlops.base.coverage import share_classes
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.losses import log_losses, set_means
from hf_mlops.serving.features import set_features

VARIANTS = ("dihyfo-1", "dihyfo-2")
UNTOLD = -1  # instead of a data order


@dataclass(frozen=True)
class LossSignal:
    """Losses per group to the conditioning vector of a variant.

    DiHyFo-1: the log losses on D_r and on D_f (0 if nothing is forgotten), the `set_features` of D_f, with `shares` for each
    group in D_f one over how many there are, 0 for others, the square of the log loss on D_r over 2 and its cube over 6, since
    training takes weights along a curve, and, if runs tell pairs of groups apart, for each group in D_f both log losses once
    more, since how far its weights go depends on how much is asked for. Pairs are among the features only where groups share
    classes: of others, unions that no run forgot are composed, and would be told what only pairs of training have. DiHyFo-2:
    the log loss on every group. Log losses are standardised over the population.

    Raises:
        BadRequest: an unknown variant.
    """

    variant: str
    share: Float[Any, " groups"]  # of the data that each group is
    holds: Bool[Any, "classes groups"]  # which classes are in which groups
    pairs: Bool[Any, ""]  # whether runs tell pairs of groups apart: `tells_pairs`
    shares: Bool[Any, ""]  # whether it is told which share of D_f each group is
    centre: Float[Any, " logs"]  # of log losses: two, or one for each group
    spread: Float[Any, " logs"]

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise BadRequest(f"unknown variant {self.variant!r}; allowed: {', '.join(VARIANTS)}")

    @classmethod
    def fit(
        cls,
        variant: str,
        losses: Float[Any, "rows groups"],
        forgotten: Bool[Any, "rows groups"],
        share: Float[Any, " groups"],
        holds: Bool[Any, "classes groups"],
        pairs: Bool[Any, ""],
        shares: Bool[Any, ""],
    ) -> LossSignal:
        """The signal for a population's training rows: losses, nats, and the groups in D_f."""
        xp = array_namespace(losses)
        logs = _logs(variant, losses, forgotten, share)
        known = ~xp.isnan(logs)
        count = xp.clip(xp.sum(xp.astype(known, logs.dtype), axis=0), 1, None)
        centre = xp.sum(xp.where(known, logs, 0.0), axis=0) / count
        variance = xp.sum(xp.where(known, logs - centre, 0.0) ** 2, axis=0) / count
        spread = xp.where(xp.any(known, axis=0), xp.clip(variance**0.5, 1e-6, None), 1.0)
        return cls(variant, share, holds, pairs, shares, centre, spread)

    @property
    def width(self) -> int:
        """Entries of the vector."""
        xp = array_namespace(self.share)
        none = xp.zeros_like(self.share)[None, :]
        return self(none, none > 0).shape[1]

    def __call__(self, losses: Float[Any, "rows groups"], forgotten: Bool[Any, "rows groups"]) -> Float[Any, "rows signal"]:
        """Losses, nats, and the groups in D_f to the conditioning vector."""
        xp = array_namespace(losses)
        logs = (_logs(self.variant, losses, forgotten, self.share) - self.centre) / self.spread
        logs = xp.where(xp.isnan(logs), 0.0, logs)
        if self.variant != "dihyfo-1":
            return logs
        retain, members = logs[:, :1], xp.astype(forgotten, logs.dtype)
        features = set_features(forgotten, self.holds, self.pairs & share_classes(self.holds))
        shares = [members / xp.clip(xp.sum(members, axis=1, keepdims=True), 1, None)] if self.shares else []
        parts = [logs, features, *shares, retain**2 / 2, retain**3 / 6]
        if self.pairs:
            parts += [members * logs[:, 1:], members * retain]
        return xp.concat(parts, axis=1)


def condition(
    signal: LossSignal,
    orders: int,
    losses: Float[Any, "rows groups"],
    forgotten: Bool[Any, "rows groups"],
    order: Int[Any, " rows"],
) -> Float[Any, "rows told"]:
    """What the denoiser is told: the loss signal, and of so many data orders a 1 for the row's, unless that is `UNTOLD`."""
    xp = array_namespace(losses)
    own = order[:, None] == xp.arange(orders)
    return xp.concat([signal(losses, forgotten), xp.astype(own, losses.dtype)], axis=1)


def _logs(
    variant: str,
    losses: Float[Any, "rows groups"],
    forgotten: Bool[Any, "rows groups"],
    share: Float[Any, " groups"],
) -> Float[Any, "rows logs"]:
    """Log losses on D_r and D_f (NaN if nothing is forgotten), or on every group."""
    xp = array_namespace(losses)
    return log_losses(xp.stack(set_means(losses, forgotten, share), axis=1) if variant == "dihyfo-1" else losses)
