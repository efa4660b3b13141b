"""Is the likelihood ratio the known attack? Beside that of another library, sacroml, on the same classifiers.

    pip install sacroml==2.0.1          # in an environment of its own: it asks for an older pandas
    python -m benchmarks.crosscheck

Classifiers of scikit-learn, each trained on one half of the training images of digits, are asked about both halves. The one
judge is `hf_mlops/audit/likelihood.py`, with the others of these as its worlds; the other is sacroml's LiRA in its form
"online-carlini", with shadow models that it trains itself (it keeps them as pickles, here in a folder of this process that goes
with it). A row for each judge: area under the ROC curve, its standard error over classifiers, and true positives; "likeness" is
the rank correlation of the two judges' scores of images. "Nothing to find" are classifiers of the test images, of which no
judge can tell one half of the training images from the other. Writes benchmarks/results/crosscheck.csv.
"""

from __future__ import annotations

import logging
import warnings
from tempfile import TemporaryDirectory

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from benchmarks import write_table
from hf_mlops import load_dataset
from hf_mlops.audit.detection import AUC, detection
from hf_mlops.audit.likelihood import likelihood_ratios, true_class_logits
from hf_mlops.audit.worlds import halves
from hf_mlops.base.progress import Progress

LEAST = 1e-16  # a probability under this counts as this, as in sacroml
MEMBERS, NOTHING = "of one half", "nothing to find"


@click.command(help=__doc__)
@click.option("--worlds", default=16, show_default=True, help="Classifiers on halves of the images, an even number.")
@click.option("--judged", default=8, show_default=True, help="Of these, that sacroml judges too.")
@click.option("--shadows", default=64, show_default=True, help="Models that sacroml trains for each.")
def command(worlds: int, judged: int, shadows: int) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    logging.disable(logging.INFO)
    data = load_dataset("digits")
    images, labels = data.train.images.flatten(1).numpy(), data.train.labels
    members = halves(labels, worlds)
    classifiers = [fitted(images[half], labels.numpy()[half], seed) for seed, half in enumerate(members.numpy())]
    logits = torch.stack([logits_of(one, images, labels) for one in classifiers])
    rows = []
    with Progress("judging", judged, "classifier") as progress:
        for number in range(judged):
            half = members[number].numpy()
            other = fitted(data.test.images.flatten(1).numpy(), data.test.labels.numpy(), number)
            with TemporaryDirectory() as folder:  # shadow models of the one serve the other
                for kind, classifier in {MEMBERS: classifiers[number], NOTHING: other}.items():
                    asked = logits.clone()
                    asked[number] = logits_of(classifier, images, labels)
                    ours = likelihood_ratios(asked[:, None], members, labels)[number, 0].numpy()
                    theirs = by_sacroml(classifier, images, labels.numpy(), half, shadows, folder)
                    likeness = float(spearmanr(ours, theirs).statistic)
                    for judge, scores in (("hf_mlops", ours), ("sacroml", theirs)):
                        found = detection(scores[half], scores[~half])
                        rows.append({"kind": kind, "judge": judge, **found, "likeness": likeness})
            progress.advance()
    by_judge = pd.DataFrame(rows).groupby(["kind", "judge"], sort=False)
    write_table("crosscheck", by_judge.mean().assign(error=by_judge[AUC].sem()).reset_index())


def logits_of(classifier: MLPClassifier, images: NDArray, labels: Tensor) -> Tensor:
    """(images,) of the true class."""
    answers = torch.from_numpy(classifier.predict_proba(images))
    return true_class_logits(answers.clamp_min(LEAST).log(), labels)


def fitted(images: NDArray, labels: NDArray, seed: int) -> MLPClassifier:
    """A classifier that learns much by heart; with less decay some are sure to the last bit, which sacroml makes NaN of."""
    return MLPClassifier((16,), alpha=0.1, max_iter=500, random_state=seed).fit(images, labels)


def by_sacroml(
    classifier: MLPClassifier, images: NDArray, labels: NDArray, half: NDArray, shadows: int, folder: str
) -> NDArray:
    """(images,) logarithms of the likelihood ratios that sacroml's LiRA gives."""
    from sacroml.attacks.likelihood_attack import LIRAAttack
    from sacroml.attacks.target import Target

    attack = LIRAAttack(folder, write_report=False, n_shadow_models=shadows, mode="online-carlini", report_individual=True)
    parts = {"X_train": images[half], "y_train": labels[half], "X_test": images[~half], "y_test": labels[~half]}
    attack.attack(Target(model=classifier, **parts))
    found = np.array(attack.attack_metrics[0]["individual"]["member_prob"])  # of members, then of the others
    scores = np.empty(len(images))
    scores[half], scores[~half] = found[: half.sum()], found[half.sum() :]
    return scores


if __name__ == "__main__":
    command()
