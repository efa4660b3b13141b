"""Measuring: how classifiers of one forget spec fare on a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Bool, Float, Int
from scipy.special import betaincinv

from hf_mlops.base.groups import Groups
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Split
from hf_mlops.population.outputs import Answering, Outputs

LEAST = 1e-6  # a probability under this counts as this: a class that is masked has none at all


def sets_of(
    spec: ForgetSpec, groups: Int[Any, " images"], apart: Bool[Any, " images"] | None = None
) -> tuple[Bool[Any, " images"], Bool[Any, " images"]]:
    """Which images are in D_r and which in D_f of a spec; those of no group are in D_r, unless they are apart.

    Args:
        groups: of the images; -1 of none.
        apart: images that may be in D_f but not in D_r.
    """
    xp = array_namespace(groups)
    forget = xp.asarray([*spec.mask, False], device=device(groups))[groups]  # the last is of images in no group
    return ~forget if apart is None else ~(forget | apart), forget


def covered_classes(groups: Groups, spec: ForgetSpec) -> Bool[np.ndarray, " classes"]:
    """Classes of which a spec leaves nothing to train on."""
    covered = groups.covered(spec.groups)
    return np.array([label in covered for label in range(len(groups.holders))])


class OnSets(NamedTuple):
    """Means over D_r and over D_f, of each classifier; NaN of a set without images."""

    retain: Float[Any, " models"]
    forget: Float[Any, " models"]


@dataclass(frozen=True)
class Measured:
    """How classifiers of the same forget spec fare on a split.

    Args:
        spec: what they forgot, or were to forget.
        outputs: what they answer to each image.
    """

    spec: ForgetSpec
    outputs: Outputs

    @property
    def losses(self) -> Float[Any, "models groups"]:
        """Mean cross-entropy on each group, nats."""
        return self.outputs.losses

    @property
    def accuracies(self) -> Float[Any, "models groups"]:
        """Accuracy on each group, 0 to 1."""
        return self.outputs.accuracies

    @property
    def predictions(self) -> Int[Any, "models images"]:
        """The class predicted for each image."""
        return self.outputs.predictions

    @property
    def to_forget(self) -> Bool[Any, " images"]:
        """Which images of the split are in D_f."""
        return self.sets()[1]

    def sets(self, spec: ForgetSpec | None = None) -> tuple[Bool[Any, " images"], Bool[Any, " images"]]:
        """Which images are in D_r and which in D_f of a spec, by default its own."""
        return sets_of(spec or self.spec, self.outputs.groups, self.outputs.apart)

    def only(self, index: int) -> Measured:
        """One of the classifiers."""
        return Measured(self.spec, self.outputs.only([index]))

    @property
    def triggered(self) -> Bool[Any, " images"]:
        """Which images carry an attacker's trigger; their labels are what the attacker wants."""
        apart = self.outputs.apart
        return self.to_forget & False if apart is None else apart & (self.outputs.groups < 0)

    @property
    def attack_success(self) -> Float[Any, " models"]:
        """Share of the images with a trigger that are taken for what the attacker wants; NaN if there are none."""
        return share(self.outputs.right, self.triggered)

    def accuracy_on_sets(self, spec: ForgetSpec | None = None) -> OnSets:
        """Accuracy on D_r and on D_f of a spec, by default its own."""
        return OnSets(*(share(self.outputs.right, images) for images in self.sets(spec)))

    def loss_on_sets(self, spec: ForgetSpec | None = None) -> OnSets:
        """Mean cross-entropy on D_r and on D_f of a spec, by default its own, nats."""
        return OnSets(*(mean(self.outputs.image_losses, images) for images in self.sets(spec)))

    def churn(self, before: Int[Any, " images"], spec: ForgetSpec | None = None) -> Float[Any, " models"]:
        """Share of the images in D_r of a spec, by default its own, that are not predicted as before."""
        return share(self.predictions != before, self.sets(spec)[0])

    @cached_property
    def answers(self) -> Float[Any, "images classes"]:
        """Probability of every class, mean over the classifiers."""
        xp = array_namespace(self.outputs.log_probabilities)
        return xp.mean(xp.exp(self.outputs.log_probabilities), axis=0)

    def divergence(self, answers: Float[Any, "images classes"]) -> Float[Any, " models"]:
        """Kullback-Leibler divergence from these answers to each classifier's, nats, mean over the images in D_f.

        A probability under `LEAST` counts as that; NaN if D_f is empty.
        """
        xp = array_namespace(answers)
        wanted = xp.clip(answers[self.to_forget, ...], LEAST, None)
        given = xp.clip(self.outputs.log_probabilities[:, self.to_forget, ...], log(LEAST), None)
        each = xp.sum(wanted * (xp.log(wanted) - given), axis=-1)  # (models, images in D_f)
        return xp.sum(each, axis=1) / (each.shape[1] or xp.nan)

    def disagreement(self, spec: ForgetSpec | None = None) -> float:
        """Share of the images in D_r that two classifiers predict differently, mean over pairs; NaN for one alone."""
        count = len(self.predictions)
        among = sum(float(share) for one in self.predictions for share in self.churn(one, spec))
        return among / (count * (count - 1)) if count > 1 else float("nan")


def mean(values: Float[Any, "models images"], images: Bool[Any, " images"]) -> Float[Any, " models"]:
    """Mean over some of the images; NaN if there are none."""
    xp, chosen = array_namespace(values), values[:, images]
    return xp.sum(chosen, axis=1) / (chosen.shape[1] or xp.nan)


def share(marks: Bool[Any, "models images"], images: Bool[Any, " images"]) -> Float[Any, " models"]:
    """Share of some of the images that are marked; NaN if there are none."""
    xp = array_namespace(marks)
    return mean(xp.astype(marks, xp.float32), images)


def at_most(share: float, images: int) -> float:
    """What a share that was measured on so many images is at most, with 95 % confidence: 0 of 36 may be 8 %.

    Source: Clopper and Pearson, Biometrika 26 (1934). NaN if there are no images.
    """
    if not images:
        return float("nan")
    right = round(share * images)
    return float(betaincinv(right + 1, images - right, 0.95)) if right < images else 1.0


def measure(target: Answering, weights: Float[Any, "models params"], spec: ForgetSpec, split: Split) -> Measured:
    """Runs classifiers on a split."""
    return Measured(spec, Outputs.of_targets(target, weights, split, len(spec.group_names)))
