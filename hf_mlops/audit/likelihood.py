"""Likelihood ratios: does a classifier tell which images its world was trained on? Scores, and how well they tell members.

Sources: Carlini et al., "Membership Inference Attacks From First Principles" (arXiv 2112.03570, LiRA); Hayes et al., "Inexact
Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy" (arXiv 2403.01218, U-LiRA).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.audit.detection import detection
from hf_mlops.audit.worlds import pairs
from hf_mlops.base.noise import generator_of, seed_of

DRAWS = 500  # of the bootstrap
LEAST_VARIANCE = 1e-12


def true_class_logits(
    log_probabilities: Float[Tensor, "*any images classes"], labels: Int[Tensor, " images"]
) -> Float[Tensor, "*any images"]:
    """log p - log(1 - p) of the probability p of the true class, which is near normal over classifiers (LiRA).

    1 - p is summed up from the other classes, so that neither a sure class nor a forgotten one is lost to rounding.
    """
    true = one_hot(labels, log_probabilities.shape[-1]).bool()
    values = log_probabilities.float()
    own, others = (values.masked_fill(~which, -torch.inf).logsumexp(-1) for which in (true, ~true))
    return own - others


def class_means(values: Float[Tensor, "*any images"], labels: Int[Tensor, " images"]) -> Float[Tensor, "*any images"]:
    """For every image the mean over the images of its class."""
    member = one_hot(labels).to(values.dtype)
    return (values @ member / member.sum(0).clamp_min(1))[..., labels]


def likelihood_ratios(
    logits: Float[Tensor, "worlds models images"], members: Bool[Tensor, "worlds images"], labels: Int[Tensor, " images"]
) -> Float[Tensor, "worlds models images"]:
    """log N(x; in) - log N(x; out) of each classifier and image: above 0, it looks as if its world had had the image.

    The normals are those of the image's logits in worlds of other pairs that it is in, and in those that it is not in.

    - Logits are taken about a classifier's mean on the images of the class: how deep a forgotten logit lies as a whole differs
      from world to world, and says nothing of one image.
    - Classifiers of a world share it. So the variance is that of the means of worlds, and what one classifier adds to it. Few
      worlds tell it: it is half the image's own and half the mean of its class, the same in and out.
    - How far the means of in and out are apart is drawn to the mean of the class by as much as it is chance (James and Stein).

    Args:
        logits: `true_class_logits` of classifiers of one kind. To judge several by their mean, give that as one.
        members: which images each world was trained on; worlds are pairs, as of `worlds.halves`.
        labels: the class of each image.

    Raises:
        BadRequest: worlds that `worlds.pairs` refuses.
    """
    logits = logits.double()
    logits = logits - class_means(logits, labels)
    means, models = logits.mean(1), logits.shape[1]
    within = (logits - means[:, None]).square().sum(1) / models  # of one classifier, more than that of its world's mean
    ratios = torch.empty_like(logits)
    for judged in pairs(members):
        count = len(members) // 2 - 1
        own = [((members == member) & ~judged[:, None]).double() for member in (True, False)]
        centres = [(some * means).sum(0) / count for some in own]
        squares = [(some * (means - centre).square()).sum(0) for some, centre in zip(own, centres, strict=True)]
        variance = (squares[0] + squares[1]) / (2 * count - 2)
        apart = _shrunk(centres[0] - centres[1], 2 / count * variance, labels)
        variance = variance + within[~judged].mean(0)
        variance = ((variance + class_means(variance, labels)) / 2).clamp_min(LEAST_VARIANCE)
        ratios[judged] = (logits[judged] - (centres[0] + centres[1]) / 2) * apart / variance
    return ratios.float()


def _shrunk(
    values: Float[Tensor, " images"], chance: Float[Tensor, " images"], labels: Int[Tensor, " images"]
) -> Float[Tensor, " images"]:
    """Values drawn to the mean of their class by the share of their variance that is chance."""
    usual = class_means(values, labels)
    all_of_it = class_means((values - usual).square(), labels).clamp_min(LEAST_VARIANCE)
    return usual + (1 - class_means(chance, labels) / all_of_it).clamp_min(0) * (values - usual)


@dataclass(frozen=True)
class Judged:
    """Scores of classifiers and images, and the truth about them.

    Args:
        scores: the higher, the more the image looks like a member.
        members: which images each world was trained on; worlds are pairs.
    """

    scores: Float[Tensor, "worlds models images"]
    members: Bool[Tensor, "worlds images"]

    def detection(self) -> dict[str, float]:
        """`detection` of all worlds, classifiers and images together."""
        members = self.members[:, None].expand_as(self.scores)
        return detection(self.scores[members].numpy(), self.scores[~members].numpy())

    @property
    def area(self) -> float:
        """Under the ROC curve, over all worlds, classifiers and images: 0.5 is chance."""
        return self._area(np.ones(self.members.shape))

    def areas(self, seed: int = 0) -> NDArray[np.float64]:
        """The area in `DRAWS` draws of a bootstrap over pairs of worlds and over images, both at once.

        Source: Owen, "The pigeonhole bootstrap" (Annals of Applied Statistics 1, 2007). An image's scores in different worlds
        are judged by each other, and all scores of a world share it: neither alone is a draw by chance. Errs on the wide side.
        The same seed draws the same worlds and images of other classifiers, for differences.
        """
        random = generator_of(seed_of("bootstrap", seed))
        worlds, images = self.members.shape
        draws = []
        for _ in range(DRAWS):
            pair, image = (random.multinomial(count, np.full(count, 1 / count)) for count in (worlds // 2, images))
            draws.append(self._area(np.outer(np.repeat(pair, 2), image).astype(np.float64)))
        return np.array(draws)

    def _area(self, weights: NDArray[np.float64]) -> float:
        """With a weight for each world and image."""
        values, place = self._ranked
        members, models = self.members.numpy(), self.scores.shape[1]
        spread = [np.repeat((weights * some)[:, None], models, 1).ravel() for some in (members, ~members)]
        own, others = (np.bincount(place, some, len(values)) for some in spread)
        whole = own.sum() * others.sum()
        return float((own * (others.cumsum() - others / 2)).sum() / whole) if whole else float("nan")

    @cached_property
    def _ranked(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores, ascending, and the place of each among them."""
        values, place = np.unique(self.scores.double().numpy(), return_inverse=True)
        return values, place.ravel()
