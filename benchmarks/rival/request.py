"""A request to forget as a rival has it, and the descent that most rivals are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.device import fast_products
from hf_mlops.data.dataset import Split
from hf_mlops.population.chunk import minibatches
from hf_mlops.population.config import OPTIMISERS, PopulationConfig
from hf_mlops.population.target import Target


@dataclass(frozen=True, eq=False)  # one is itself alone
class Request:
    """What a rival is given: classifiers in production, all of which are to forget the same, and the images.

    Args:
        target: the architecture, on the device of the weights.
        weights: of the classifiers in production; each is dealt with as if it were alone, on minibatches that all share.
        retain, forget: training images in D_r and in D_f, on that device.
        config: by which production was trained; a rival takes its optimiser, minibatches and weight decay.
        seed: of minibatches, and of all else that a rival draws.
    """

    target: Target
    weights: Float[Tensor, "models params"]
    retain: Split
    forget: Split
    config: PopulationConfig
    seed: int

    @classmethod
    def of(
        cls,
        target: Target,
        weights: Float[Tensor, "models params"],
        spec: ForgetSpec,
        train: Split,
        config: PopulationConfig,
        seed: int = 0,
    ) -> Request:
        """The request to forget a spec.

        Args:
            train: all training images.

        Raises:
            BadRequest: a spec that forgets nothing.
        """
        if not spec.groups:
            raise BadRequest("the forget spec is empty: a rival has nothing to forget; allowed: one with a group at least")
        return cls(target, weights, *sets_of(train, spec), config, seed)


def sets_of(split: Split, spec: ForgetSpec) -> tuple[Split, Split]:
    """D_r and D_f of a split."""
    forgotten = torch.tensor(spec.mask, device=split.groups.device)[split.groups]
    retain, forget = (Split(split.images[rows], split.labels[rows], split.groups[rows]) for rows in (~forgotten, forgotten))
    return retain, forget


@dataclass(frozen=True)
class Term:
    """A part of the loss that is descended: cross-entropy on the images of a split, mean over a minibatch of them.

    Args:
        factor: below 0 where this loss is to rise.
        teacher: weights of targets, one or one for each model, whose answers are what is wanted; by default labels are. The
            gradient is that of the divergence from the teacher, of which cross-entropy differs by the teacher's entropy.
    """

    split: Split
    factor: float = 1.0
    teacher: Float[Tensor, "teachers params"] | None = None

    def loss(
        self, target: Target, weights: Float[Tensor, "models params"], batch: Int[Tensor, " batch"]
    ) -> Float[Tensor, " models"]:
        """The part that a minibatch has in the loss of each model, nats."""
        images = self.split.images[batch]
        wanted = one_hot(self.split.labels[batch], target.classes).float()[None]
        if self.teacher is not None:
            with torch.no_grad():
                wanted = target.logits(self.teacher, images).softmax(-1)  # (teachers, batch, classes)
        return -self.factor * (wanted * target.logits(weights, images).log_softmax(-1)).sum(-1).mean(-1)


def descend(
    request: Request,
    terms: Sequence[Term],
    effort: float,
    rate: float,
    l1: float = 0.0,
    only: Bool[Tensor, "models params"] | None = None,
) -> Float[Tensor, "models params"]:
    """Trains classifiers on from production, by the optimiser of production and a cosine that decays to 0 again.

    Args:
        terms: of the loss, each on minibatches of its own.
        effort: optimiser steps, as a share of those that a retraining takes.
        rate: learning rate to begin with, as a multiple of production's.
        l1: weight of the sum of absolute weights, which decays to 0 linearly.
        only: weights that may change; by default all.
    """
    config, before = request.config, request.weights
    steps = max(1, round(effort * config.train_steps))
    weights = before.clone().requires_grad_()
    make = OPTIMISERS[config.optimiser]
    optimiser = make([weights], lr=rate * config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = generator_of(seed_of("rival", request.seed))
    batches = [minibatches(len(term.split), config.batch_size, generator) for term in terms]
    for step in range(steps):
        with fast_products():
            parts = [
                term.loss(request.target, weights, next(some).to(weights.device))
                for term, some in zip(terms, batches, strict=True)
            ]
            loss = torch.stack(parts).sum() + l1 * (1 - step / steps) * weights.abs().sum()
            optimiser.zero_grad()
            loss.backward()  # models share no parameter: the sum's gradient is each model's own
        optimiser.step()
        schedule.step()
        if only is not None:
            with torch.no_grad():
                weights.copy_(weights.where(only, before))
    return weights.detach()
