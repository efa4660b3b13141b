"""Measuring: how classifiers of one forget spec fare on a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import betaincinv
from torch import Tensor

from hf_mlops.base.groups import Groups
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Split
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

LEAST = 1e-6  # a probability under this counts as this: a class that is masked has none at all


def sets_of(
    spec: ForgetSpec, groups: Int[Tensor, " images"], apart: Bool[Tensor, " images"] | None = None
) -> tuple[Bool[Tensor, " images"], Bool[Tensor, " images"]]:
    """Which images are in D_r and which in D_f of a spec; those of no group are in D_r, unless they are apart.

    Args:
        groups: of the images; -1 of none.
        apart: images that may be in D_f but not in D_r.
    """
    forget = torch.tensor([*spec.mask, False])[groups]  # the last is of images in no group
    return ~forget if apart is None else ~(forget | apart), forget


def covered_classes(groups: Groups, spec: ForgetSpec) -> Bool[Tensor, " classes"]:
    """Classes of which a spec leaves nothing to train on."""
    covered = groups.covered(spec.groups)
    return torch.tensor([label in covered for label in range(len(groups.holders))])


class OnSets(NamedTuple):
    """Means over D_r and over D_f, of each classifier; NaN of a set without images."""

    retain: Float[Tensor, " models"]
    forget: Float[Tensor, " models"]


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
    def losses(self) -> Float[Tensor, "models groups"]:
        """Mean cross-entropy on each group, nats."""
        return self.outputs.losses

    @property
    def accuracies(self) -> Float[Tensor, "models groups"]:
        """Accuracy on each group, 0 to 1."""
        return self.outputs.accuracies

    @property
    def predictions(self) -> Int[Tensor, "models images"]:
        """The class predicted for each image."""
        return self.outputs.predictions

    @property
    def to_forget(self) -> Bool[Tensor, " images"]:
        """Which images of the split are in D_f."""
        return self.sets()[1]

    def sets(self, spec: ForgetSpec | None = None) -> tuple[Bool[Tensor, " images"], Bool[Tensor, " images"]]:
        """Which images are in D_r and which in D_f of a spec, by default its own."""
        return sets_of(spec or self.spec, self.outputs.groups, self.outputs.apart)

    def only(self, index: int) -> Measured:
        """One of the classifiers."""
        return Measured(self.spec, self.outputs.only([index]))

    @property
    def triggered(self) -> Bool[Tensor, " images"]:
        """Which images carry an attacker's trigger; their labels are what the attacker wants."""
        apart = self.outputs.apart
        return torch.zeros_like(self.to_forget) if apart is None else apart & (self.outputs.groups < 0)

    @property
    def attack_success(self) -> Float[Tensor, " models"]:
        """Share of the images with a trigger that are taken for what the attacker wants; NaN if there are none."""
        return self.outputs.right[:, self.triggered].float().mean(1)

    def accuracy_on_sets(self, spec: ForgetSpec | None = None) -> OnSets:
        """Accuracy on D_r and on D_f of a spec, by default its own."""
        return self._means(self.outputs.right.float(), spec)

    def loss_on_sets(self, spec: ForgetSpec | None = None) -> OnSets:
        """Mean cross-entropy on D_r and on D_f of a spec, by default its own, nats."""
        return self._means(self.outputs.image_losses, spec)

    def _means(self, values: Float[Tensor, "models images"], spec: ForgetSpec | None) -> OnSets:
        retain, forget = (values[:, images].mean(1) for images in self.sets(spec))
        return OnSets(retain, forget)

    def churn(self, before: Int[Tensor, " images"], spec: ForgetSpec | None = None) -> Float[Tensor, " models"]:
        """Share of the images in D_r of a spec, by default its own, that are not predicted as before."""
        return (self.predictions != before)[:, self.sets(spec)[0]].float().mean(1)

    @cached_property
    def answers(self) -> Float[Tensor, "images classes"]:
        """Probability of every class, mean over the classifiers."""
        return self.outputs.log_probabilities.exp().mean(0)

    def divergence(self, answers: Float[Tensor, "images classes"]) -> Float[Tensor, " models"]:
        """Kullback-Leibler divergence from these answers to each classifier's, nats, mean over the images in D_f.

        A probability under `LEAST` counts as that; NaN if D_f is empty.
        """
        wanted = answers[self.to_forget].clamp_min(LEAST)
        given = self.outputs.log_probabilities[:, self.to_forget].clamp_min(log(LEAST))
        return (wanted * (wanted.log() - given)).sum(-1).mean(-1)

    def disagreement(self, spec: ForgetSpec | None = None) -> float:
        """Share of the images in D_r that two classifiers predict differently, mean over pairs; NaN for one alone."""
        count = len(self.predictions)
        among = torch.stack([self.churn(one, spec).sum() for one in self.predictions]).sum().item()
        return among / (count * (count - 1)) if count > 1 else float("nan")


def at_most(share: float, images: int) -> float:
    """What a share that was measured on so many images is at most, with 95 % confidence: 0 of 36 may be 8 %.

    Source: Clopper and Pearson, Biometrika 26 (1934). NaN if there are no images.
    """
    if not images:
        return float("nan")
    right = round(share * images)
    return float(betaincinv(right + 1, images - right, 0.95)) if right < images else 1.0


def measure(target: Target, weights: Float[Tensor, "models params"], spec: ForgetSpec, split: Split) -> Measured:
    """Runs classifiers on a split."""
    return Measured(spec, Outputs.of_targets(target, weights, split, len(spec.group_names)))
