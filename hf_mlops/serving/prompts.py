"""Prompts: the losses that a hypernetwork is asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from math import isfinite
from typing import Any

from array_api_compat import array_namespace, device
from jaxtyping import Bool, Float

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.losses import log_losses, log_ratio, losses_of_logs, set_means
from hf_mlops.base.ridge import ridge
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.serving.features import set_features

LEAST = 1e-9  # nats: a loss of 0 cannot be scaled to another


@dataclass(frozen=True)
class Prompt:
    """The losses asked for.

    Args:
        losses: on each group, nats.
        retain_loss, forget_loss: their means over D_r and D_f; the latter is NaN where nothing is forgotten.
    """

    losses: Float[Any, " groups"]
    retain_loss: float
    forget_loss: float


@dataclass(frozen=True)
class PromptBook:
    """The losses that a retrained target would have, for any forget spec and, if asked, at another loss on D_r.

        log loss of a group  =  usual  +  (a n + b) x²  +  (c n + d) x        where n groups are forgotten

    *Usual* is what it is at the end of a run: a ridge regression on the `set_features` of D_f. x is how far the log loss on D_r
    is off its own usual value. The rest is the *course* of training, fitted to all checkpoints: quadratic, since the loss on
    D_f first rises in training and then falls. Every group has two such formulas: one for where it is retained, one for where
    it is forgotten.

    A loss asked for on D_f says how much of it is known: on a log scale, where it lies on the way from what retrained targets
    have there to what those have that forgot nothing. As far the other losses go on their way between these two.

    Only losses within the range of the training rows can be asked for, and a usual loss on D_r is no lower than that: where
    one or two groups are left it would be, and a network that was hardly ever told so gives weights that lose these groups.
    """

    share: Float[Any, " groups"]  # of the data that each group is
    holds: Bool[Any, "classes groups"]  # which classes are in which groups
    pairs: Bool[Any, ""]  # whether runs tell pairs of groups apart: `tells_pairs`
    usual: Float[Any, "2 groups features"]  # where a group is retained, where it is forgotten
    course: Float[Any, "2 groups 4"]  # a, b, c, d; the same two
    retain_range: Float[Any, " 2"]  # lowest and highest loss on D_r, nats
    forget_range: Float[Any, " 2"]  # on D_f

    @classmethod
    def fit(
        cls,
        losses: Float[Any, "rows groups"],
        forgotten: Bool[Any, "rows groups"],
        final: Bool[Any, " rows"],
        without: Bool[Any, " rows"],
        share: Float[Any, " groups"],
        holds: Bool[Any, "classes groups"],
        pairs: Bool[Any, ""],
    ) -> PromptBook:
        """The book of a population's training rows.

        Args:
            losses: on each group, nats.
            forgotten: the groups in D_f.
            final: whether a row is at the end of its run.
            without: whether that run left all of its D_f out; others only say how low a loss on D_f can be asked for.
            share: of the data that each group is.
            holds: which classes are in which groups.
            pairs: whether runs tell pairs of groups apart: `tells_pairs`.
        """
        xp = array_namespace(losses)
        retain, forget = set_means(losses, forgotten, share)
        logs = log_losses(losses)
        features = _features(forgotten, holds, pairs)
        usual, expected = _regressions(features, logs, forgotten, fitted=final & without)
        usual_retain, _ = set_means(losses_of_logs(expected), forgotten, share)
        powers = _powers(log_ratio(retain, usual_retain), forgotten)
        course, _ = _regressions(powers, logs - expected, forgotten, fitted=without)
        forget = forget[~xp.isnan(forget)]
        ranges = (xp.stack([xp.min(some), xp.max(some)]) for some in (retain, forget))
        return cls(share, holds, pairs, usual, course, *ranges)

    def prompt(self, spec: ForgetSpec, retain_loss: float | None = None, forget_loss: float | None = None) -> Prompt:
        """The prompt for a spec, at a given loss on D_r or D_f if asked, which is clipped to the population's range.

        Raises:
            BadRequest: a loss that is negative or not finite, or a forget loss although nothing is forgotten.

        Warns:
            UserWarning: a loss outside the range of the population; names the range.
        """
        refuse_loss_on_nothing(spec, forget_loss)
        xp = array_namespace(self.share)
        mask = self._mask(spec)
        retain_loss = _in_range("retain_loss", retain_loss, self.retain_range)
        forget_loss = _in_range("forget_loss", forget_loss, self.forget_range)
        logs = self._usual_logs(mask[None, :])[0, :]
        if forget_loss is not None:
            logs = logs + self._known(forget_loss, spec) * (self._usual_logs(mask[None, :] & False)[0, :] - logs)
        if retain_loss is not None:
            usual, _ = self._means(losses_of_logs(logs), mask)
            course = xp.where(mask[:, None], self.course[1, ...], self.course[0, ...])
            logs = logs + course @ _powers(log_ratio(retain_loss, usual), mask[None, :])[0, :]
        losses = losses_of_logs(logs)
        retain, forget = self._means(losses, mask)
        if retain_loss is None and float(retain[0]) < float(self.retain_range[0]):  # usual of a set far larger than any run's
            retain_loss = float(self.retain_range[0])
        if retain_loss is not None or forget_loss is not None:  # so that means are what was asked for, not only near it
            for asked, members, mean in ((retain_loss, ~mask, retain), (forget_loss, mask, forget)):
                if asked is not None:
                    losses = xp.where(members, xp.clip(losses, LEAST, None) * asked / xp.clip(mean, LEAST, None), losses)
            retain, forget = self._means(losses, mask)
        return Prompt(losses, float(retain[0]), float(forget[0]))

    def usual_losses(self, forgotten: Bool[Any, "rows groups"]) -> Float[Any, "rows groups"]:
        """Losses that retrained targets have on each group, nats, from the groups in D_f."""
        return losses_of_logs(self._usual_logs(forgotten))

    def known_loss(self, spec: ForgetSpec) -> float:
        """Mean loss on D_f that targets have which forgot nothing, nats; NaN if D_f is empty."""
        mask = self._mask(spec)
        return float(self._means(self.usual_losses(mask[None, :] & False)[0, :], mask)[1][0])

    def _known(self, forget_loss: float, spec: ForgetSpec) -> float:
        """How much of D_f is known by a loss on it: 0 as to targets that left it out, 1 as to those that forgot nothing."""
        mask = self._mask(spec)
        _, never = self._means(self.usual_losses(mask[None, :])[0, :], mask)
        whole, asked = (float(log_ratio(loss, never)[0]) for loss in (self.known_loss(spec), forget_loss))
        return min(max(asked / whole, 0.0), 1.0) if whole < 0 else 0.0

    def _usual_logs(self, forgotten: Bool[Any, "rows groups"]) -> Float[Any, "rows groups"]:
        xp = array_namespace(self.usual)
        coefficients = xp.where(forgotten[:, :, None], self.usual[1, ...], self.usual[0, ...])  # (rows, groups, features)
        return xp.sum(coefficients * _features(forgotten, self.holds, self.pairs)[:, None, :], axis=2)

    def _mask(self, spec: ForgetSpec) -> Bool[Any, " groups"]:
        xp = array_namespace(self.share)
        return xp.asarray(spec.mask, device=device(self.share))

    def _means(self, losses: Float[Any, " groups"], mask: Bool[Any, " groups"]) -> tuple[Float[Any, " 1"], Float[Any, " 1"]]:
        """Mean losses over D_r and D_f of one row."""
        return set_means(losses[None, :], mask[None, :], self.share)


def refuse_loss_on_nothing(spec: ForgetSpec, forget_loss: float | None) -> None:
    """Holds a loss asked for on D_f against the spec.

    Raises:
        BadRequest: there is such a loss although nothing is forgotten; names it as it was asked for.
    """
    if forget_loss is not None and not spec.groups:
        raise BadRequest(f"forget_loss = {forget_loss} was asked for, but the forget spec {str(spec)!r} forgets nothing")


def _regressions(
    features: Float[Any, "rows features"],
    values: Float[Any, "rows groups"],
    forgotten: Bool[Any, "rows groups"],
    fitted: Bool[Any, " rows"],
) -> tuple[Float[Any, "2 groups features"], Float[Any, "rows groups"]]:
    """For each group a ridge regression of the rows that retained it, and one of the rows that forgot it.

    Returns:
        their coefficients, fitted to some of the rows, and what they give for all of the rows.
    """
    xp, groups = array_namespace(values), values.shape[1]
    coefficients = xp.zeros((2, groups, features.shape[1]), dtype=features.dtype)
    expected = xp.empty_like(values)
    for forgot, group in product((0, 1), range(groups)):
        rows = forgotten[:, group] == bool(forgot)
        coefficients[forgot, group] = ridge(features[rows & fitted], values[rows & fitted, group])
        expected[rows, group] = features[rows] @ coefficients[forgot, group]
    return coefficients, expected


def _features(
    forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"], pairs: Bool[Any, ""]
) -> Float[Any, "rows features"]:
    """The features of sets, and a constant."""
    xp = array_namespace(forgotten)
    features = set_features(forgotten, holds, pairs)
    return xp.concat([features, xp.ones_like(features[:, :1])], axis=1)


def _powers(off: Float[Any, " rows"], forgotten: Bool[Any, "rows groups"]) -> Float[Any, "rows 4"]:
    """n x², x², n x and x, of log losses on D_r that are x off their usual value, where n groups are forgotten."""
    xp = array_namespace(off)
    count = xp.sum(xp.astype(forgotten, off.dtype), axis=1)
    return xp.stack([count * off**2, off**2, count * off, off], axis=1)


def _in_range(name: str, asked: float | None, limits: Float[Any, " 2"]) -> float | None:
    """A loss asked for, clipped to the (low, high) that the population covers, with a warning if that changes it."""
    if asked is None:
        return None
    low, high = float(limits[0]), float(limits[1])
    if not isfinite(asked) or asked < 0:
        raise BadRequest(f"{name} = {asked} is not allowed; allowed: a finite loss from 0, best {low:.3g} to {high:.3g}")
    clipped = min(max(asked, low), high)
    if clipped != asked:
        text = f"{name} = {asked:.4g} lies outside the training range {low:.4g} to {high:.4g}: clipped to {clipped:.4g}"
        warnings.warn(text, stacklevel=4)
    return clipped
