"""Class-membership attack: do the answers among the other classes tell whether a class was in a classifier's training?"""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.audit.measure import LEAST
from hf_mlops.audit.twosample import FOLDS, JUDGES, tell_apart
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.population.outputs import Outputs

LINEAR = next(iter(JUDGES))


def class_evidence(outputs: Outputs, spec: ForgetSpec) -> Float[Tensor, "models groups retained"]:
    """Mean log probability of every retained class on the images of each class, D_f's among them; nats.

    Probabilities are shared out anew among the retained classes, so that a classifier that masks the forgotten ones shows what
    it would show without the mask; one under `LEAST` counts as that.

    Raises:
        BadRequest: groups that are no classes, or a spec that forgets nothing or leaves fewer than two classes.
    """
    kept = ~torch.tensor(spec.mask)
    if not torch.equal(outputs.labels, outputs.groups):
        raise BadRequest("whether a group was in training is not asked of classes where groups are no classes")
    if not spec.groups or kept.sum() < 2:
        raise BadRequest(f"forgetting {str(spec) or 'nothing'} is not allowed here; allowed: to forget a class and retain two")
    answers = outputs.log_probabilities[..., kept].log_softmax(-1).clamp_min(log(LEAST))
    member = one_hot(outputs.groups, len(spec.group_names)).float()
    return torch.einsum("mic,ig->mgc", answers, member / member.sum(0))


class ClassJudge:
    """A logistic regression that tells shadow models that kept a class from such as were retrained without it.

    It learns from `class_evidence`, all or some of it, of models that are none of those it judges.

    Source: Ebrahimpour-Boroojeny, Wang and Sundaram, arXiv 2506.20893, whose attack sees the nearest class alone.

    Args:
        kept: evidence of shadow models that had the class in training.
        left: of shadow models that were retrained without it.

    Raises:
        BadRequest: fewer than `FOLDS` of either.
    """

    def __init__(self, kept: Float[Tensor, "kept groups retained"], left: Float[Tensor, "left groups retained"]):
        if min(len(kept), len(left)) < FOLDS:
            raise BadRequest(f"{len(kept)} and {len(left)} shadow models are too few; allowed: at least {FOLDS} of each")
        self.kept, self.left = kept.flatten(1), left.flatten(1)
        labels = torch.tensor([1, 0]).repeat_interleave(torch.tensor([len(kept), len(left)]))
        self._judge = JUDGES[LINEAR](0).fit(torch.cat([self.kept, self.left]).numpy(), labels.numpy())

    @property
    def ability(self) -> float:
        """AUC among the shadow models themselves, cross-validated over models: 0.5 if the answers show nothing."""
        return tell_apart(self.left, self.kept, judges=[LINEAR])[LINEAR]

    def scores(self, evidence: Float[Tensor, "models groups retained"]) -> NDArray:
        """The higher, the more it seems that the class was in training; logits."""
        return self._judge.decision_function(evidence.flatten(1).numpy())

    def beliefs(self, evidence: Float[Tensor, "models groups retained"]) -> NDArray:
        """Probability that the class was in training, 0 to 1."""
        return self._judge.predict_proba(evidence.flatten(1).numpy())[:, 1]

    def way(
        self,
        evidence: Float[Tensor, "models groups retained"],
        kept: Float[Tensor, "kept groups retained"],
        left: Float[Tensor, "left groups retained"],
    ) -> float:
        """Where the mean score of models lies on the way from held-out retrained ones, 0, to held-out originals, 1."""
        low, high = self.scores(left).mean(), self.scores(kept).mean()
        return float((self.scores(evidence).mean() - low) / (high - low))
