"""Group-membership attack: do the answers of a classifier tell whether a class, or a customer, was in its training?"""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.audit.measure import LEAST
from hf_mlops.audit.twosample import FOLDS, JUDGES
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.population.outputs import Outputs

LINEAR = next(iter(JUDGES))


def group_evidence(outputs: Outputs, spec: ForgetSpec) -> Float[Tensor, "models groups features"]:
    """What answers to the images of each group, those of D_f among them, show of whether that was in training; nats.

    Of classes the mean log probability of every retained class. Probabilities are shared out anew among these, so that a
    classifier that masks the forgotten ones shows what it would show without the mask. Of other groups, whose images are to be
    answered as a stranger's are, that of the true class. A probability under `LEAST` counts as that.

    Raises:
        BadRequest: a spec that forgets nothing, or of classes one that leaves fewer than two.
    """
    kept = ~torch.tensor(spec.mask)
    classes = torch.equal(outputs.labels, outputs.groups)
    if not spec.groups or kept.sum() < 1 + classes:
        raise BadRequest(
            f"forgetting {str(spec) or 'nothing'} is not allowed here; allowed: to forget a group, and to retain two classes or"
            " one group of another kind"
        )
    if not classes:
        return -outputs.losses.clamp_max(-log(LEAST)).unsqueeze(-1)
    answers = outputs.log_probabilities[..., kept].log_softmax(-1).clamp_min(log(LEAST))
    member = one_hot(outputs.groups, len(spec.group_names)).float()
    return torch.einsum("mic,ig->mgc", answers, member / member.sum(0))


class GroupJudge:
    """A logistic regression that tells shadow models that kept a group from such as were retrained without it.

    It learns from `group_evidence`, all or some of it, of models that are none of those it judges.

    Source: Ebrahimpour-Boroojeny, Wang and Sundaram, arXiv 2506.20893, whose attack sees the nearest class alone.

    Args:
        kept: evidence of shadow models that had the group in training.
        left: of shadow models that were retrained without it.

    Raises:
        BadRequest: fewer than `FOLDS` of either.
    """

    def __init__(self, kept: Float[Tensor, "kept groups features"], left: Float[Tensor, "left groups features"]):
        if min(len(kept), len(left)) < FOLDS:
            raise BadRequest(f"{len(kept)} and {len(left)} shadow models are too few; allowed: at least {FOLDS} of each")
        labels = torch.tensor([1, 0]).repeat_interleave(torch.tensor([len(kept), len(left)]))
        self._judge = JUDGES[LINEAR](0).fit(torch.cat([kept, left]).flatten(1).numpy(), labels.numpy())

    def scores(self, evidence: Float[Tensor, "models groups features"]) -> NDArray:
        """The higher, the more it seems that the group was in training; logits."""
        return self._judge.decision_function(evidence.flatten(1).numpy())

    def beliefs(self, evidence: Float[Tensor, "models groups features"]) -> NDArray:
        """Probability that the group was in training, 0 to 1."""
        return self._judge.predict_proba(evidence.flatten(1).numpy())[:, 1]

    def way(
        self,
        evidence: Float[Tensor, "models groups features"],
        kept: Float[Tensor, "kept groups features"],
        left: Float[Tensor, "left groups features"],
    ) -> float:
        """Where the mean score of models lies on the way from held-out retrained ones, 0, to held-out originals, 1."""
        low, high = self.scores(left).mean(), self.scores(kept).mean()
        return float((self.scores(evidence).mean() - low) / (high - low))
