"""What a rival is judged by: figures of classifiers after a request, each beside those of retrained targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log

import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.rival.request import sets_of
from hf_mlops.audit.measure import LEAST, Measured
from hf_mlops.audit.relearning import EARLY, relearn
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset, Split
from hf_mlops.data.poison import GROUP
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

ATTACK, FORGET_ACCURACY, RETAIN_ACCURACY, DIVERGENCE, MEMBERSHIP, RELEARNED, CHURN = FIGURES = (
    "attack success",  # share of test images with a trigger that are taken for what the attacker wants
    "accuracy on D_f",  # of poison: share of it that is taken for what the attacker wants
    "accuracy on D_r",
    "divergence on D_f",  # nats, of the answers from the mean of retrained targets'
    "membership, AUC",  # of the loss on D_f, images trained on against others of that sort
    "accuracy on D_f, relearned",  # `back_early`
    "churn",  # share of D_r predicted otherwise than by production
)


@dataclass(frozen=True)
class Classifiers:
    """What became of classifiers in production after one request, on the CPU.

    Args:
        left_out: classes that are left out of their answers besides, if any.
    """

    target: Target
    weights: Float[Tensor, "models params"]
    spec: ForgetSpec
    left_out: Bool[Tensor, " classes"] | None = None

    def on(self, split: Split) -> Measured:
        """What they answer to a split."""
        outputs = Outputs.of_targets(self.target, self.weights, split, len(self.spec.group_names))
        return Measured(self.spec, outputs if self.left_out is None else outputs.without(self.left_out))


def figures(
    judged: Classifiers, retrained: Measured, production: Measured, dataset: Dataset, seed: int
) -> dict[str, list[float]]:
    """Every one of `FIGURES`, of each classifier, on what audits look at; NaN of those that the data do not have.

    Args:
        retrained: targets on the same images, whose mean answers on D_f are what is wanted.
        production: on the same, what the classifiers were before, each; or, of another number, what all are held against.
        seed: of the images that relearning sees.
    """
    test = judged.on(dataset.audited)
    retain, forget = test.accuracy_on_sets()
    forgotten = sets_of(dataset.train, judged.spec)[1]
    columns = (
        test.attack_success,
        forget,
        retain,
        test.divergence(retrained.answers),
        membership(judged.on(forgotten), test),
        back_early(judged, dataset, seed),
        churn(test, production),
    )
    return {name: column.tolist() for name, column in zip(FIGURES, columns, strict=True)}


def membership(train: Measured, test: Measured) -> Float[Tensor, " models"]:
    """How well a threshold on the loss tells images of D_f that were trained on from `fresh` ones: area under the ROC curve.

    0.5: not at all. A probability under `LEAST` counts as that, so that what is masked tells nothing.

    Args:
        train: on training images.
        test: on what audits look at.

    Source: Yeom et al., "Privacy risk in machine learning" (arXiv 1709.01604).
    """
    scores = [_log_probability_of_truth(one, images) for one, images in ((train, train.to_forget), (test, fresh(test)))]
    member = [1] * scores[0].shape[1] + [0] * scores[1].shape[1]
    return torch.tensor([roc_auc_score(member, score) for score in torch.cat(scores, 1)])


def fresh(test: Measured) -> Bool[Tensor, " images"]:
    """Images of the sort of D_f that no classifier was trained on: test images in D_f; of poison, those with its trigger; of
    customers, of whom there are no test images, all test images."""
    apart = torch.zeros_like(test.to_forget) if test.outputs.apart is None else test.outputs.apart
    if (of_the_set := test.to_forget & ~apart).any():
        return of_the_set
    return test.triggered if _poison(test.spec) and test.triggered.any() else ~apart


def _poison(spec: ForgetSpec) -> bool:
    return GROUP in (spec.group_names[group] for group in spec.groups)


def _log_probability_of_truth(measured: Measured, images: Bool[Tensor, " images"]) -> Float[Tensor, "models some"]:
    return -measured.outputs.image_losses[:, images].clamp_max(-log(LEAST))


def back_early(judged: Classifiers, dataset: Dataset, seed: int) -> Float[Tensor, " models"]:
    """Accuracy on D_f after `EARLY` steps of relearning; what is left out of the answers besides is no part of the weights.

    Of poison with a trigger it is attack success: of the images of its class that are trained on poison has its share. NaN of
    customers, whom retrained targets have right already, and of poison without a trigger, of whose images others say the
    opposite.
    """
    spec, test, shown = judged.spec, dataset.test, dataset.triggered
    if not dataset.groups.covered(spec.groups):
        if not _poison(spec) or shown is None or torch.equal(shown.images, test.images[dataset.victims]):
            return torch.full((len(judged.weights),), torch.nan)
        dataset = replace(dataset, test=replace(shown, groups=torch.full_like(shown.groups, spec.groups[0])))
    return relearn(judged.target, judged.weights, spec, dataset, seed, EARLY)[EARLY]


def churn(after: Measured, before: Measured) -> Float[Tensor, " models"]:
    """Share of the images in D_r that each predicts otherwise than its own classifier in production did.

    Where there are not as many: than each of those in production did, on average.
    """
    each = torch.stack([after.churn(one) for one in before.predictions])  # (production, models)
    return each.diagonal() if each.shape[0] == each.shape[1] else each.mean(0)
