"""Loss signals and prompts: what the hypernetwork is told about the classifier wanted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from hf_mlops.spec import ForgetSpec

VARIANTS = ("dihyfo-1", "dihyfo-2")
LOSS_FLOOR = 1e-3  # losses enter as log(loss + floor): a loss of 0 stays finite


def set_means(values: Tensor, forgotten: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Means over D_r and over D_f of a measure (loss, accuracy) that is known for each group.

    Args:
        values: (N, G) mean on each group.
        forgotten: (N, G) bool.
        share: (G,) share of the data that each group is.

    Returns:
        mean over D_r (N,) and over D_f (N,); the latter is NaN where nothing is forgotten.
    """
    retain, forget = share * ~forgotten, share * forgotten
    return (values * retain).sum(1) / retain.sum(1), (values * forget).sum(1) / forget.sum(1)


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
        return (losses + LOSS_FLOOR).log()

    def forward(self, losses: Tensor, forgotten: Tensor) -> Tensor:
        """(N, G) losses and (N, G) bool -> (N, width)."""
        logs = ((self._logs(losses, forgotten) - self.centre) / self.spread).nan_to_num(0.0)
        return torch.cat([logs, forgotten.to(logs) * 2 - 1], 1) if self.variant == "dihyfo-1" else logs


@dataclass(frozen=True)
class Prompt:
    """The losses asked for.

    Args:
        losses: (G,) loss on each group, nats.
        retain_loss, forget_loss: their means over D_r and D_f; the latter is NaN where nothing is forgotten.
    """

    losses: Tensor
    retain_loss: float
    forget_loss: float


class PromptBook(nn.Module):
    """The losses that a retrained target would have, for any forget spec and, if asked, at another loss on D_r.

    Ridge regressions over the training rows: the log loss on D_r at the end of a run, from the groups forgotten; and the log
    loss on each group, from the groups forgotten and the log loss on D_r (one for rows that forgot the group, one for rows
    that did not). Loss ranges are those of the training rows: beyond them, samples are extrapolations.
    """

    share: Tensor  # (G,) share of the data that each group is
    final: Tensor  # (G + 1,)
    coefficients: Tensor  # (retained or forgotten, G, G + 2)
    retain_range: Tensor  # (2,) nats
    forget_range: Tensor  # (2,) nats

    def __init__(self, share: Tensor, final: Tensor, coefficients: Tensor, retain_range: Tensor, forget_range: Tensor):
        super().__init__()
        self.register_buffer("share", share)
        self.register_buffer("final", final)
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("retain_range", retain_range)
        self.register_buffer("forget_range", forget_range)

    @classmethod
    def fit(cls, losses: Tensor, forgotten: Tensor, final: Tensor, share: Tensor) -> PromptBook:
        """The book for a population's training rows: losses (N, G), forgotten (N, G) bool, final (N,) bool, share (G,)."""
        groups = losses.shape[1]
        retain, forget = set_means(losses, forgotten, share)
        logs, level = (losses + LOSS_FLOOR).log(), (retain + LOSS_FLOOR).log()
        features = torch.cat([forgotten.float(), level[:, None], torch.ones(len(losses), 1)], 1)  # (N, G + 2)
        without_level = torch.cat([features[:, :groups], features[:, -1:]], 1)
        coefficients = torch.zeros(2, groups, groups + 2)
        for status in (0, 1):
            for group in range(groups):
                rows = forgotten[:, group] == bool(status)
                coefficients[status, group] = _ridge(features[rows], logs[rows, group])
        forget = forget[~forget.isnan()]
        ranges = torch.stack(retain.aminmax()), torch.stack(forget.aminmax())
        return cls(share.clone(), _ridge(without_level[final], level[final]), coefficients, *ranges)

    def prompt(self, spec: ForgetSpec, retain_loss: float | None = None, forget_loss: float | None = None) -> Prompt:
        """The prompt for a spec, at a given loss on D_r or D_f if asked.

        Raises:
            ValueError: a loss that is negative or not finite, or a forget loss although nothing is forgotten.

        Warns:
            UserWarning: a loss outside the range of the population, beyond which samples are extrapolations.
        """
        mask = torch.tensor(spec.mask)
        for name, asked, limits in (
            ("retain_loss", retain_loss, self.retain_range),
            ("forget_loss", forget_loss, self.forget_range),
        ):
            if asked is None:
                continue
            low, high = limits.tolist()
            if not isfinite(asked) or asked < 0:
                raise ValueError(
                    f"{name} = {asked} is not allowed; allowed: a finite loss from 0, best {low:.3g} to {high:.3g}"
                )
            if not low <= asked <= high:
                warnings.warn(
                    f"{name} = {asked:.4g} lies outside the training range {low:.4g} to {high:.4g}: expect samples to miss it",
                    stacklevel=3,
                )
        if forget_loss is not None and not mask.any():
            raise ValueError(f"forget_loss = {forget_loss} was asked for, but the forget spec {str(spec)!r} forgets nothing")
        one = torch.ones(1)
        if retain_loss is None:
            level = self.final @ torch.cat([mask.float(), one])
        else:
            level = torch.tensor(retain_loss + LOSS_FLOOR).log()
        features = torch.cat([mask.float(), level.view(1), one])
        losses = (self.coefficients[mask.long(), torch.arange(len(mask))] @ features).exp() - LOSS_FLOOR
        losses = losses.clamp_min(0)
        for asked, members in ((level.exp().item() - LOSS_FLOOR, ~mask), (forget_loss, mask)):
            if asked is not None:  # so that the mean is what was asked for, not only near it
                now = (losses * self.share)[members].sum() / self.share[members].sum()
                losses = torch.where(members, losses * asked / now.clamp_min(1e-9), losses)
        retain, forget = set_means(losses[None], mask[None], self.share)
        return Prompt(losses, retain.item(), forget.item())


def _ridge(features: Tensor, values: Tensor) -> Tensor:
    """Coefficients (F,) of a ridge regression of (N,) on (N, F); the last feature, the constant, is not penalised."""
    x, y = features.double(), values.double()
    penalty = torch.eye(x.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 1e-6
    return torch.linalg.solve(x.T @ x + penalty, x.T @ y).float()
