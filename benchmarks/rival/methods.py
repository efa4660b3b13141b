"""The rivals: what each needs at the request, and what may be tuned of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.rival.dampening import dampen
from benchmarks.rival.descents import bad_teacher, fine_tune, gradient_ascent, neg_grad, random_labels, salun, sparse
from benchmarks.rival.request import Request
from hf_mlops.base.errors import BadRequest

NOTHING, FORGET, RETAIN, BOTH = "nothing", "D_f", "D_r", "D_f and D_r"


@dataclass(frozen=True)
class Range:
    """What a hyperparameter may be, and what it is unless it is tuned; it is tuned on a logarithmic scale."""

    low: float
    high: float
    default: float


@dataclass(frozen=True)
class Method:
    """A rival.

    Args:
        forget: takes a request and the hyperparameters by name, and gives the weights of its classifiers.
        needs: which data it takes at the request.
        ranges: of its hyperparameters.
        masks: whether the forgotten classes are left out of the answers besides, which no weights tell of.
    """

    forget: Callable[..., Tensor]
    needs: str
    ranges: dict[str, Range] = field(default_factory=dict)
    masks: bool = False

    def __call__(self, request: Request, **chosen: float) -> Tensor:
        """Weights (models, P) after the request, by hyperparameters that were chosen, or else by their defaults.

        Raises:
            BadRequest: a hyperparameter that it does not have, or out of its range.
        """
        for name, value in chosen.items():
            if name not in self.ranges:
                raise BadRequest(f"unknown hyperparameter {name!r}; allowed: {', '.join(self.ranges) or 'none'}")
            one = self.ranges[name]
            if not one.low <= value <= one.high:
                raise BadRequest(f"{name} = {value!r} is not allowed; allowed: {one.low:g} to {one.high:g}")
        return self.forget(request, **{name: one.default for name, one in self.ranges.items()} | chosen)


def _training(effort: float = 0.1, rate: float = 1.0) -> dict[str, Range]:
    """What every descent has: steps as a share of a retraining's, and learning rate as a multiple of production's."""
    return {"effort": Range(0.01, 0.5, effort), "rate": Range(0.01, 4, rate)}


FINE_TUNE, MASK = "fine-tune", "logit mask"
METHODS: dict[str, Method] = {
    FINE_TUNE: Method(fine_tune, RETAIN, _training()),
    "gradient ascent": Method(gradient_ascent, FORGET, {"effort": Range(0.002, 0.1, 0.01), "rate": Range(0.001, 4, 1)}),
    "NegGrad+": Method(neg_grad, BOTH, {**_training(), "ascent": Range(1e-4, 0.5, 0.05)}),
    "random labels": Method(random_labels, BOTH, _training()),
    "l1-sparse": Method(sparse, RETAIN, {**_training(), "gamma": Range(1e-5, 0.1, 5e-4)}),
    "SalUn": Method(salun, BOTH, {**_training(), "share": Range(0.05, 1, 0.5)}),
    # Where D_f is a tenth of the images, nothing matters to it over ten times as much as to all, and that is the paper's alpha.
    "selective synaptic dampening": Method(dampen, BOTH, {"alpha": Range(0.1, 10, 2), "damping": Range(0.01, 5, 1)}),
    "bad teacher": Method(bad_teacher, BOTH, _training()),
    MASK: Method(lambda request: request.weights, NOTHING, masks=True),
}
