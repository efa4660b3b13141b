"""Relative test: are classifiers nearer to retrained ones than to others that have not, or not rightly, forgotten?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from hf_mlops.audit.controls import RETRAINED, controls
from hf_mlops.audit.measure import sets_of
from hf_mlops.audit.reference import Reference
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.population.outputs import Outputs

ENOUGH_ROWS = 4  # classifiers of each of the three kinds
LEVEL = 0.05  # a p-value under this is called nearer


def answers(outputs: Outputs, spec: ForgetSpec) -> Float[Tensor, "models features"]:
    """Square roots of all probabilities on all images, so weighted that D_f counts as much as D_r.

    Squared distances of two rows are twice the squared Hellinger distance of their answers, mean over D_f plus mean over D_r.
    A probability of 0 is as near to a small one as it should be: a mask is not told by how deep it is, nor taken for a
    retrained target because it is as deep, but by what it answers instead.

    Raises:
        BadRequest: D_f or D_r has no image.
    """
    retained, forgotten = sets_of(spec, outputs.groups, outputs.apart)
    counts = torch.stack([retained.sum(), forgotten.sum()])
    if not counts.all():
        raise BadRequest(f"forgetting {str(spec) or 'nothing'} leaves no image in D_f or in D_r; allowed: images in both")
    weight = torch.stack([retained, forgotten], 1).float() @ counts.float().rsqrt()
    return ((outputs.log_probabilities / 2).exp() * weight[:, None]).flatten(1)


@dataclass(frozen=True)
class Relative:
    """Outcome of a relative test.

    Args:
        difference: squared distance from the judged to retrained classifiers less that to the others; below 0: nearer to these.
        deviation: its standard deviation; NaN if there is nothing to tell it by.
    """

    difference: float
    deviation: float

    @property
    def p_value(self) -> float:
        """How likely such a difference is, or one further below 0, if the judged are no nearer to retrained classifiers."""
        return float(norm.cdf(self.difference / self.deviation))

    @property
    def nearer(self) -> bool:
        """Whether the judged are nearer to retrained classifiers, at `LEVEL`; False if that cannot be told."""
        return self.p_value < LEVEL


def relative_test(
    judged: Float[Tensor, "judged features"],
    retrained: Float[Tensor, "retrained features"],
    others: Float[Tensor, "others features"],
) -> Relative:
    """The relative test of three samples: squared maximum mean discrepancies, unbiased, their difference and its deviation.

    The kernel is Gaussian, as wide as the median distance among all rows. The deviation is that of the first order of the
    difference as a U-statistic, each of the three samples with its own share, which is the source's for samples of one size.

    Source: Bounliphone et al., "A test of relative similarity for model selection in generative models", arXiv 1511.04581; to
    judge unlearning by one, Ribero, Schrab and Gretton, arXiv 2601.19755.

    Raises:
        BadRequest: fewer than `ENOUGH_ROWS` rows in one of the three, or a value that is not finite.
    """
    sizes = [len(judged), len(retrained), len(others)]
    rows = torch.cat([judged, retrained, others]).double()
    if min(sizes) < ENOUGH_ROWS or not rows.isfinite().all():
        raise BadRequest(
            f"{sizes[0]} judged, {sizes[1]} retrained and {sizes[2]} other rows cannot be compared; allowed: at least"
            f" {ENOUGH_ROWS} of each, all finite"
        )
    squared = torch.cdist(rows, rows).square()
    apart = ~torch.eye(len(rows), dtype=torch.bool)
    kernel = (-squared / (2 * squared[apart].median())).exp() * apart  # a row is not compared with itself
    to_judged, to_retrained, to_others = kernel.split(sizes, 1)
    left, middle, right = (slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(3))
    shares = [
        2 * (to_others[left].mean(1) - to_retrained[left].mean(1)),  # of each judged row in the difference, times its number
        2 * (to_retrained[middle].sum(1) / (sizes[1] - 1) - to_judged[middle].mean(1)),
        2 * (to_judged[right].mean(1) - to_others[right].sum(1) / (sizes[2] - 1)),
    ]
    difference = shares[0].mean() + to_retrained[middle].sum() / (sizes[1] * (sizes[1] - 1))
    difference = difference - to_others[right].sum() / (sizes[2] * (sizes[2] - 1))
    variance = sum(float(share.var()) / size for share, size in zip(shares, sizes, strict=True))
    return Relative(float(difference), variance**0.5 or float("nan"))


def alternatives(reference: Reference, spec: ForgetSpec) -> dict[str, list[Float[Tensor, "models features"]]]:
    """What classifiers of a spec must not be nearer to than to its retrained targets: all its controls but these.

    Returns:
        by name in `CONTROLS`, `answers` of one or several such sets of classifiers; empty where too few were retrained for it.
    """
    found: dict[str, list[Tensor]] = {}
    for kind, audit in controls(reference, spec):
        if kind != RETRAINED:
            found.setdefault(kind, []).append(answers(audit.sampled.outputs, spec))
    return found


def against_all(
    judged: Float[Tensor, "judged features"],
    retrained: Float[Tensor, "retrained features"],
    others: dict[str, list[Float[Tensor, "others features"]]],
) -> dict[str, list[Relative]]:
    """Relative tests of classifiers of a spec, between its retrained targets and each of its `alternatives`.

    They are nearer to retrained targets if every one of the tests says so: each at its level is then as strict as they are
    together (Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982).
    """
    return {kind: [relative_test(judged, retrained, one) for one in several] for kind, several in others.items()}
