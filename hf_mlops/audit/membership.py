"""Membership attacks on one classifier at a time: does it answer to images of D_f as to images that it was trained on?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.audit.detection import detection
from hf_mlops.audit.exposure import Exposed, Shown
from hf_mlops.audit.measure import LEAST
from hf_mlops.base.noise import generator_of, seed_of

LEARNT_FROM = 300  # members, and as many others, at most: a support-vector machine takes time by the square
CALLED = "called members"  # share of the training images in D_f that an attack's own threshold calls members
RETAINED = "loss on D_r"  # the attack on members that are retained


def correctness(shown: Shown) -> Float[Tensor, "images 1"]:
    """1 where the class predicted is the image's."""
    return (shown.log_probabilities.argmax(1) == shown.labels).float()[:, None]


def confidence(shown: Shown) -> Float[Tensor, "images 1"]:
    """Probability of the image's class."""
    return shown.log_probabilities.gather(1, shown.labels[:, None]).exp()


def entropy(shown: Shown) -> Float[Tensor, "images 1"]:
    """Nats."""
    return torch.special.entr(shown.log_probabilities.exp()).sum(1, keepdim=True)


def modified_entropy(shown: Shown) -> Float[Tensor, "images 1"]:
    """-(1 - p) log p of the image's class, and -q log(1 - q) of every other: 0 if surely right, large if surely wrong.

    Probabilities in logarithms are at least `LEAST`.

    Source: Song and Mittal, "Systematic evaluation of privacy risks of machine learning models", arXiv 2003.10595.
    """
    given, own = shown.log_probabilities.exp(), one_hot(shown.labels, shown.log_probabilities.shape[1])
    right = -(1 - given) * given.clamp_min(LEAST).log()
    wrong = -given * (1 - given).clamp_min(LEAST).log()
    return torch.where(own.bool(), right, wrong).sum(1, keepdim=True)


def probabilities(shown: Shown) -> Float[Tensor, "images classes"]:
    """Of every class."""
    return shown.log_probabilities.exp()


@dataclass(frozen=True)
class Attack:
    """A judge of images that learns from D_r, what is known to be in training, and is then asked of D_f.

    Args:
        features: what it sees of an image.
        judge: made anew for every classifier attacked.
    """

    features: Callable[[Shown], Tensor]
    judge: Callable[[], BaseEstimator]

    def on(self, seen: Exposed, seed: int = 0) -> dict[str, float]:
        """`detection` of the training images in D_f among test images in D_f, and what share is `CALLED` members."""
        draw = generator_of(seed_of("attack", seed))
        retained, retained_others, members, others = (self.features(part).numpy() for part in seen.parts)
        count = min(len(retained), len(retained_others), LEARNT_FROM)
        known = [draw.permutation(part)[:count] for part in (retained, retained_others)]
        judge = self.judge().fit(np.concatenate(known), np.repeat([1, 0], count))
        scored = [judge.decision_function(part) for part in (members, others)]
        return {**detection(*scored), CALLED: float(judge.predict(members).mean())}


def _vector_machine() -> BaseEstimator:
    """As Unlearn-Saliency sets it."""
    return SVC(C=3, gamma="auto", kernel="rbf")


# Sources. Entropy: selective synaptic dampening (Foster et al., arXiv 2308.07707), after Chundawat et al., arXiv 2205.08096.
# The five with support vectors, one feature each: Unlearn-Saliency (Fan et al., arXiv 2310.12508). They print `CALLED`, or 1
# less it, of training images alone. Beside test images of the same classes, a class is not taken for membership.
ATTACKS: dict[str, Attack] = {
    "entropy": Attack(entropy, lambda: LogisticRegression(class_weight="balanced")),
    "SVC, correctness": Attack(correctness, _vector_machine),
    "SVC, confidence": Attack(confidence, _vector_machine),
    "SVC, entropy": Attack(entropy, _vector_machine),
    "SVC, modified entropy": Attack(modified_entropy, _vector_machine),
    "SVC, probabilities": Attack(probabilities, _vector_machine),
}


def retained_members(seen: Exposed) -> dict[str, float]:
    """`detection` of training images in D_r among test images in D_r by their loss: what is kept must be no easier to find.

    Source: Yeom et al., "Privacy risk in machine learning", arXiv 1709.01604, for the loss as the score.
    """
    scores: list[NDArray] = [-part.losses.numpy() for part in (seen.retained, seen.retained_others)]
    return detection(*scores)
