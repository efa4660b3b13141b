"""The loss signal: what the hypernetwork is told about the classifier wanted."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_mlops.base.errors import BadRequest
from hf_mlops.compute.coverage import scarcity
from hf_mlops.compute.losses import log_losses, set_means

VARIANTS = ("dihyfo-1", "dihyfo-2")


class LossSignal(nn.Module):
    """Losses per group to the conditioning vector of a variant.

    DiHyFo-1: the log losses on D_r and on D_f (0 if nothing is forgotten), for each group 1 if it is in D_f, else -1, and the
    `scarcity` of classes. DiHyFo-2: the log loss on every group. Log losses are standardised over the population.

    Raises:
        BadRequest: an unknown variant.
    """

    share: Float[Tensor, " groups"]  # of the data that each group is
    holds: Bool[Tensor, "classes groups"]  # which classes are in which groups
    centre: Float[Tensor, " logs"]  # of log losses: two, or one for each group
    spread: Float[Tensor, " logs"]

    def __init__(
        self,
        variant: str,
        share: Float[Tensor, " groups"],
        holds: Bool[Tensor, "classes groups"],
        centre: Float[Tensor, " logs"],
        spread: Float[Tensor, " logs"],
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise BadRequest(f"unknown variant {variant!r}; allowed: {', '.join(VARIANTS)}")
        self.variant = variant
        self.register_buffer("share", share)
        self.register_buffer("holds", holds)
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        none = torch.zeros(1, len(share))
        self.width = self(none, none.bool()).shape[1]

    @classmethod
    def fit(
        cls,
        variant: str,
        losses: Float[Tensor, "rows groups"],
        forgotten: Bool[Tensor, "rows groups"],
        share: Float[Tensor, " groups"],
        holds: Bool[Tensor, "classes groups"],
    ) -> LossSignal:
        """The signal for a population's training rows: losses, nats, and the groups in D_f."""
        logs = _logs(variant, losses, forgotten, share)
        centre = logs.nanmean(0)
        spread = (logs - centre).square().nanmean(0).sqrt().nan_to_num(1.0).clamp_min(1e-6)
        return cls(variant, share, holds, centre, spread)

    def forward(
        self, losses: Float[Tensor, "rows groups"], forgotten: Bool[Tensor, "rows groups"]
    ) -> Float[Tensor, "rows signal"]:
        """Losses, nats, and the groups in D_f to the conditioning vector."""
        logs = ((_logs(self.variant, losses, forgotten, self.share) - self.centre) / self.spread).nan_to_num(0.0)
        if self.variant != "dihyfo-1":
            return logs
        return torch.cat([logs, forgotten.to(logs) * 2 - 1, scarcity(forgotten, self.holds)], 1)


def _logs(
    variant: str,
    losses: Float[Tensor, "rows groups"],
    forgotten: Bool[Tensor, "rows groups"],
    share: Float[Tensor, " groups"],
) -> Float[Tensor, "rows logs"]:
    """Log losses on D_r and D_f (NaN if nothing is forgotten), or on every group."""
    return log_losses(torch.stack(set_means(losses, forgotten, share), 1) if variant == "dihyfo-1" else losses)
