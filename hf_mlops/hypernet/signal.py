"""The loss signal: what the hypernetwork is told about the classifier wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hf_mlops.compute.losses import log_losses, set_means

VARIANTS = ("dihyfo-1", "dihyfo-2")


class LossSignal(nn.Module):
    """Losses per group to the conditioning vector of a variant.

    DiHyFo-1: the log losses on D_r and on D_f (0 if nothing is forgotten), and which groups are in D_f: G + 2 entries.
    DiHyFo-2: the log loss on every group: G entries. Log losses are standardised over the population.

    Raises:
        ValueError: an unknown variant.
    """

    share: Tensor  # (G,) share of the data that each group is
    centre: Tensor  # (2,) or (G,)
    spread: Tensor  # (2,) or (G,)

    def __init__(self, variant: str, share: Tensor, centre: Tensor, spread: Tensor):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}; allowed: {', '.join(VARIANTS)}")
        self.variant = variant
        self.width = len(centre) + (len(share) if variant == "dihyfo-1" else 0)
        self.register_buffer("share", share)
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)

    @classmethod
    def fit(cls, variant: str, losses: Tensor, forgotten: Tensor, share: Tensor) -> LossSignal:
        """The signal for a population's training rows: losses (N, G), forgotten (N, G) bool, share (G,)."""
        nothing = torch.zeros(2 if variant == "dihyfo-1" else len(share))
        logs = cls(variant, share, nothing, nothing + 1)._logs(losses, forgotten)
        centre = logs.nanmean(0)
        spread = (logs - centre).square().nanmean(0).sqrt().nan_to_num(1.0).clamp_min(1e-6)
        return cls(variant, share, centre, spread)

    def _logs(self, losses: Tensor, forgotten: Tensor) -> Tensor:
        if self.variant == "dihyfo-1":
            losses = torch.stack(set_means(losses, forgotten, self.share), 1)  # (N, 2)
        return log_losses(losses)

    def forward(self, losses: Tensor, forgotten: Tensor) -> Tensor:
        """(N, G) losses and (N, G) bool -> (N, width)."""
        logs = ((self._logs(losses, forgotten) - self.centre) / self.spread).nan_to_num(0.0)
        return torch.cat([logs, forgotten.to(logs) * 2 - 1], 1) if self.variant == "dihyfo-1" else logs
