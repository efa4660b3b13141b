"""Prompts: the losses that a hypernetwork is asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from math import isfinite

import torch
from torch import Tensor, nn

from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.losses import log_losses, log_ratio, losses_of_logs, set_means
from hf_mlops.compute.ridge import ridge

PAIR_SCALE = 0.3  # of the features of pairs: the smaller, the more a ridge regression needs to believe in one


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

    Regressions over the training rows, for each group one over rows that forgot it and one over rows that did not. *Usual* is
    its log loss at the end of a run, by ridge regression on the groups forgotten and, unless there are more pairs of groups
    than runs, on which two were forgotten together. The *course* is how far from the usual it is where the log loss on D_r
    is x off its own usual value, over all checkpoints: a x + b x², with a and b linear in the number of groups forgotten, since
    the loss on D_f first rises in training and then falls.
    Loss ranges are those of the training rows: what lies beyond them cannot be asked for.
    """

    share: Tensor  # (G,) share of the data that each group is
    usual: Tensor  # (retained or forgotten, G, features)
    course: Tensor  # (retained or forgotten, G, 4)
    retain_range: Tensor  # (2,) nats
    forget_range: Tensor  # (2,) nats

    def __init__(self, share: Tensor, usual: Tensor, course: Tensor, retain_range: Tensor, forget_range: Tensor):
        super().__init__()
        self.register_buffer("share", share)
        self.register_buffer("usual", usual)
        self.register_buffer("course", course)
        self.register_buffer("retain_range", retain_range)
        self.register_buffer("forget_range", forget_range)

    @classmethod
    def fit(cls, losses: Tensor, forgotten: Tensor, final: Tensor, share: Tensor) -> PromptBook:
        """The book for a population's training rows: losses (N, G), forgotten (N, G) bool, final (N,) bool, share (G,)."""
        groups = losses.shape[1]
        retain, forget = set_means(losses, forgotten, share)
        logs = log_losses(losses)
        features = _features(forgotten, pairs=groups * (groups - 1) // 2 <= int(final.sum()))
        usual, course = torch.zeros(2, groups, features.shape[1]), torch.zeros(2, groups, 4)
        cases = [(status, group, forgotten[:, group] == bool(status)) for status, group in product((0, 1), range(groups))]
        expected = torch.empty_like(logs)
        for status, group, rows in cases:
            usual[status, group] = ridge(features[rows & final], logs[rows & final, group])
            expected[rows, group] = features[rows] @ usual[status, group]
        usual_retain, _ = set_means(losses_of_logs(expected), forgotten, share)
        off = log_ratio(retain, usual_retain)
        for status, group, rows in cases:
            course[status, group] = ridge(_powers(off[rows], forgotten[rows]), (logs - expected)[rows, group])
        forget = forget[~forget.isnan()]
        return cls(share.clone(), usual, course, torch.stack(retain.aminmax()), torch.stack(forget.aminmax()))

    def prompt(self, spec: ForgetSpec, retain_loss: float | None = None, forget_loss: float | None = None) -> Prompt:
        """The prompt for a spec, at a given loss on D_r or D_f if asked, which is clipped to the population's range.

        Raises:
            ValueError: a loss that is negative or not finite, or a forget loss although nothing is forgotten.

        Warns:
            UserWarning: a loss outside the range of the population; names the range.
        """
        mask = torch.tensor(spec.mask)
        retain_loss = _in_range("retain_loss", retain_loss, self.retain_range)
        forget_loss = _in_range("forget_loss", forget_loss, self.forget_range)
        if forget_loss is not None and not mask.any():
            raise ValueError(f"forget_loss = {forget_loss} was asked for, but the forget spec {str(spec)!r} forgets nothing")
        logs = self._usual_logs(mask[None])[0]
        if retain_loss is not None:
            usual, _ = self._means(logs, mask)
            course = self.course[mask.long(), torch.arange(len(mask))]
            logs = logs + course @ _powers(log_ratio(retain_loss, usual), mask[None])[0]
        losses = losses_of_logs(logs)
        for asked, members, now in zip((retain_loss, forget_loss), (~mask, mask), self._means(logs, mask), strict=True):
            if asked is not None:  # so that the mean is what was asked for, not only near it
                losses = torch.where(members, losses * asked / now.clamp_min(1e-9), losses)
        retain, forget = set_means(losses[None], mask[None], self.share)
        return Prompt(losses, retain.item(), forget.item())

    def usual_losses(self, forgotten: Tensor) -> Tensor:
        """Losses (N, G) that retrained targets have on each group, nats, from the groups forgotten, (N, G) bool."""
        return losses_of_logs(self._usual_logs(forgotten))

    def _usual_logs(self, forgotten: Tensor) -> Tensor:
        """Usual log losses, (N, G), from the groups forgotten, (N, G) bool."""
        groups = forgotten.shape[1]
        features = _features(forgotten, pairs=self.usual.shape[2] > groups + 1)
        return (self.usual[forgotten.long(), torch.arange(groups)] * features[:, None]).sum(2)

    def _means(self, logs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses (1,) over D_r and D_f of log losses (G,)."""
        return set_means(losses_of_logs(logs)[None], mask[None], self.share)


def _features(forgotten: Tensor, pairs: bool) -> Tensor:
    """What log losses are regressed on, (N, F), from the groups forgotten, (N, G) bool; the last is a constant."""
    singles = forgotten.float()
    first, second = torch.triu_indices(singles.shape[1], singles.shape[1], 1) if pairs else torch.empty(2, 0).long()
    together = PAIR_SCALE * singles[:, first] * singles[:, second]
    return torch.cat([singles, together, torch.ones_like(singles[:, :1])], 1)


def _powers(off: Tensor, forgotten: Tensor) -> Tensor:
    """(N,) and (N, G) bool -> (N, 4): what the course is a sum of."""
    count = forgotten.sum(1)
    return torch.stack([count * off.square(), off.square(), count * off, off], 1)


def _in_range(name: str, asked: float | None, limits: Tensor) -> float | None:
    """A loss asked for, clipped to the (low, high) that the population covers, with a warning if that changes it."""
    if asked is None:
        return None
    low, high = limits.tolist()
    if not isfinite(asked) or asked < 0:
        raise ValueError(f"{name} = {asked} is not allowed; allowed: a finite loss from 0, best {low:.3g} to {high:.3g}")
    clipped = min(max(asked, low), high)
    if clipped != asked:
        text = f"{name} = {asked:.4g} lies outside the training range {low:.4g} to {high:.4g}: clipped to {clipped:.4g}"
        warnings.warn(text, stacklevel=4)
    return clipped
