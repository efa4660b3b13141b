"""Copies: is a sampled classifier one of the training targets again, or a mixture of some?

Source: Zeng et al., "Generative Modeling of Weights: Generalization or Memorization?", arXiv 2506.07998. They compare which
images two classifiers get wrong, and hold generated ones against noisy copies, averages and a normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_mlops.audit.measure import Measured
from hf_mlops.base.errors import BadRequest


def wrong(measured: Measured) -> Bool[Tensor, "models images"]:
    """Which images of D_r each classifier gets wrong."""
    kept = ~measured.to_forget
    return (measured.predictions != measured.outputs.labels)[:, kept]


def likeness(first: Bool[Tensor, "models images"], second: Bool[Tensor, "others images"]) -> Float[Tensor, "models others"]:
    """Intersection of the images that two classifiers get wrong, over the union.

    It is 1 of a classifier and its copy, and NaN of two that make no mistake, which says nothing.
    """
    both = first.float() @ second.float().T
    either = first.sum(1, keepdim=True) + second.sum(1) - both
    return both / either.where(either > 0, torch.nan)


def highest(
    values: Float[Tensor, "models others"], passed: Bool[Tensor, "models others"] | None = None
) -> Float[Tensor, " models"]:
    """The largest value of each row that is one; NaN where there is none.

    Args:
        passed: values to be passed over, such as that of a classifier beside itself.
    """
    if not values.shape[1]:
        return torch.full((len(values),), torch.nan)
    none = values.isnan() if passed is None else values.isnan() | passed
    most = values.masked_fill(none, -torch.inf).amax(1)
    return most.where(most > -torch.inf, torch.nan)


def apart(first: Measured, second: Measured) -> Float[Tensor, "models others"]:
    """How far answers to the images in D_r are from each other: mean total variation, 0 of a copy, at most 1.

    Two classifiers that make ten mistakes may well make the same ones; this tells them apart where these do not.
    """
    kept = ~first.to_forget
    one, other = (measured.outputs.log_probabilities[:, kept].exp().flatten(1) for measured in (first, second))
    return torch.cdist(one, other, p=1) / (2 * kept.sum())


def distance(weights: Float[Tensor, "models params"], others: Float[Tensor, "others params"]) -> Float[Tensor, "models others"]:
    """Euclidean distance in weight space."""
    return torch.cdist(weights, others, compute_mode="donot_use_mm_for_euclid_dist")  # a product would round a copy's away


def noisy(
    weights: Float[Tensor, "models params"], scale: Float[Tensor, " params"], level: float, generator: torch.Generator
) -> Float[Tensor, "models params"]:
    """Copies with normal noise.

    Args:
        scale: standard deviation of each weight over targets.
        level: of the noise, in these.
    """
    return weights + level * scale * torch.randn(weights.shape, generator=generator)


def averages(
    weights: Float[Tensor, "rows params"], count: int, of: int, generator: torch.Generator
) -> Float[Tensor, "models params"]:
    """Means of so many rows each, drawn without replacement.

    Raises:
        BadRequest: fewer rows.
    """
    if len(weights) < of:
        raise BadRequest(f"an average of {of} targets is not to be had of {len(weights)}")
    return torch.stack([weights[torch.randperm(len(weights), generator=generator)[:of]].mean(0) for _ in range(count)])


def normal(weights: Float[Tensor, "rows params"], count: int, generator: torch.Generator) -> Float[Tensor, "models params"]:
    """Draws from a normal distribution fitted to each weight by itself.

    Raises:
        BadRequest: fewer than two rows.
    """
    if len(weights) < 2:
        raise BadRequest(f"a normal distribution cannot be fitted to {len(weights)} targets; allowed: two or more")
    return weights.mean(0) + weights.std(0) * torch.randn(count, weights.shape[1], generator=generator)


def loudest(levels: Sequence[float], accuracies: Sequence[float], wanted: float) -> float:
    """The highest level of noise whose copies are still as accurate as wanted; 0, a true copy, where none is."""
    return max((level for level, found in zip(levels, accuracies, strict=True) if found >= wanted), default=0.0)
