"""What a rival is judged by: figures of classifiers after a request, each beside those of retrained targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.rival.request import sets_of
from hf_mlops.audit.measure import LEAST, Measured
from hf_mlops.audit.relearning import EARLY, relearn
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset, Split
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

FORGET_ACCURACY, RETAIN_ACCURACY, DIVERGENCE, MEMBERSHIP, RELEARNED, CHURN = FIGURES = (
    "accuracy on D_f",
    "accuracy on D_r",
    "divergence on D_f",  # nats, of the answers from the mean of retrained targets'
    "membership, AUC",  # of the loss on D_f, images trained on against test images
    "accuracy on D_f, relearned",  # in `EARLY` steps; what is left out of the answers besides is no part of the weights
    "churn",  # share of D_r predicted otherwise than by production
)


@dataclass(frozen=True)
class Classifiers:
    """What became of classifiers in production after one request, on the CPU.

    Args:
        masked: whether the classes of the spec are left out of their answers besides.
    """

    target: Target
    weights: Float[Tensor, "models params"]
    spec: ForgetSpec
    masked: bool = False

    def on(self, split: Split) -> Measured:
        """What they answer to a split."""
        outputs = Outputs.of_targets(self.target, self.weights, split, len(self.spec.group_names))
        return Measured(self.spec, outputs.without(torch.tensor(self.spec.mask)) if self.masked else outputs)


def figures(
    judged: Classifiers, retrained: Measured, production: Measured, dataset: Dataset, seed: int
) -> dict[str, list[float]]:
    """Every one of `FIGURES`, of each classifier, on test images; only membership looks at training images besides.

    Args:
        retrained: targets on the test split, whose mean answers on D_f are what is wanted.
        production: on the test split, what the classifiers were before, each; or, of another number, what all are held against.
        seed: of the images that relearning sees.
    """
    test = judged.on(dataset.test)
    retain, forget = test.accuracy_on_sets()
    forgotten = sets_of(dataset.train, judged.spec)[1]
    columns = (
        forget,
        retain,
        test.divergence(retrained.answers),
        membership(judged.on(forgotten), test),
        relearn(judged.target, judged.weights, judged.spec, dataset, seed, EARLY)[EARLY],
        churn(test, production),
    )
    return {name: column.tolist() for name, column in zip(FIGURES, columns, strict=True)}


def membership(train: Measured, test: Measured) -> Float[Tensor, " models"]:
    """How well a threshold on the loss tells images of D_f that were trained on from others, as an area under the ROC curve.

    0.5: not at all. A probability under `LEAST` counts as that, so that what is masked tells nothing.

    Source: Yeom et al., "Privacy risk in machine learning" (arXiv 1709.01604).
    """
    scores = [_log_probability_of_truth(one) for one in (train, test)]
    member = [1] * scores[0].shape[1] + [0] * scores[1].shape[1]
    return torch.tensor([roc_auc_score(member, score) for score in torch.cat(scores, 1)])


def _log_probability_of_truth(measured: Measured) -> Float[Tensor, "models images"]:
    """On the images in D_f."""
    answers = measured.outputs.log_probabilities[:, measured.to_forget]
    truth = measured.outputs.labels[measured.to_forget].expand(len(answers), -1).unsqueeze(-1)
    return answers.gather(-1, truth).squeeze(-1).clamp_min(torch.tensor(LEAST).log())


def churn(after: Measured, before: Measured) -> Float[Tensor, " models"]:
    """Share of the images in D_r that each predicts otherwise than its own classifier in production did.

    Where there are not as many: than each of those in production did, on average.
    """
    each = torch.stack([after.churn(one) for one in before.predictions])  # (production, models)
    return each.diagonal() if each.shape[0] == each.shape[1] else each.mean(0)
