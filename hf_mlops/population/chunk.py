"""Chunks: runs that are trained together, on minibatches that all of them share.

What a chunk becomes is a function of configuration, data, forget sets and seed, so that it may be trained anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from hf_mlops.base.noise import generator_of
from hf_mlops.compute.device import choose_device, fast_products
from hf_mlops.compute.replay import Replayed
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.config import OPTIMISERS, PopulationConfig
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target


@dataclass(frozen=True)
class Chunk:
    """Runs to be trained together.

    Args:
        forgotten: the groups in the D_f of each run.
        forget_weight: sample weight that D_f has in each run: 0 where it is left out, up to 1.
        seed: of the data order that the runs share and of their sample weights, from `noise.seed_of`.
    """

    forgotten: Bool[Tensor, "runs groups"]
    forget_weight: Float[Tensor, " runs"]
    seed: int


@dataclass(frozen=True)
class Rows:
    """What a chunk has become: a row for each checkpoint of each run, by step, then by run.

    Args:
        weights: float32.
        forgotten: the groups in D_f.
        forget_weight: sample weight of D_f.
        losses, accuracies: on `Dataset.conditioning`.
        run: number of the run in its chunk.
        step: after how many optimiser steps.
    """

    weights: Float[Tensor, "rows params"]
    forgotten: Bool[Tensor, "rows groups"]
    forget_weight: Float[Tensor, " rows"]
    losses: Float[Tensor, "rows groups"]
    accuracies: Float[Tensor, "rows groups"]
    run: Int[Tensor, " rows"]
    step: Int[Tensor, " rows"]


def train_chunk(
    config: PopulationConfig,
    dataset: Dataset,
    chunk: Chunk,
    device: str = "auto",
    advance: Callable[[int], object] = lambda model_steps: None,
) -> Rows:
    """Trains the runs of a chunk; the same arguments, number of threads and kind of device give the same rows, bit for bit.

    Args:
        config: how; that it also says how many runs a population has matters nothing here.
        dataset: trains on its train split; losses and accuracies come from `Dataset.conditioning`.
        device: `auto`, `cpu` or `cuda`; rows are on the CPU.
        advance: told how many model-steps more are done, after each step.

    Raises:
        BadRequest: an architecture that cannot be a target, a scope without parameters, or an unknown device.
    """
    where = choose_device(device)
    target = Target.for_dataset(config.architecture, dataset, config.scope, config.seed)
    initial = target.initial_weights(config.seed)
    target.to(where)
    conditioning = dataset.conditioning.to(where)
    runs, parts = torch.arange(len(chunk.forgotten)), []
    for step, weights in _checkpoints(config, target, initial, dataset, chunk, where, advance):
        outputs = Outputs.of_targets(target, weights, conditioning, len(dataset.groups))
        steps = torch.full_like(runs, step)
        measures = (outputs.losses.cpu(), outputs.accuracies.cpu())
        parts.append((weights.cpu(), chunk.forgotten, chunk.forget_weight, *measures, runs, steps))
    return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _checkpoints(
    config: PopulationConfig,
    target: Target,
    initial: Float[Tensor, " params"],
    dataset: Dataset,
    chunk: Chunk,
    device: torch.device,
    advance: Callable[[int], object],
) -> Iterator[tuple[int, Tensor]]:
    """Trains; gives (step, weights (runs, params)) at every checkpoint."""
    train, runs = dataset.train, len(chunk.forgotten)
    generator = generator_of(chunk.seed)
    noise = torch.from_numpy(generator.random((runs, len(train)), np.float32)) * 2 - 1
    weight = torch.where(chunk.forgotten, chunk.forget_weight[:, None], 1.0)[:, train.groups]  # (runs, images)
    sample_weight = ((1 + config.weight_noise * noise) * weight).to(device)
    train = train.to(device)
    state = {
        name: tensor.clone().requires_grad_() for name, tensor in target.unflatten(initial.to(device).repeat(runs, 1)).items()
    }
    parameters = list(state.values())

    @fast_products()
    def gradients(batch: Int[Tensor, " batch"]) -> tuple[Tensor, ...]:
        logits = target.stacked_logits(state, train.images[batch])  # (runs, batch, classes)
        labels = train.labels[batch].expand(runs, -1)  # (runs, batch)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
        weight = sample_weight[:, batch]
        per_run = (loss * weight).sum(1) / weight.sum(1).clamp_min(1e-6)
        return torch.autograd.grad(per_run.sum(), parameters)  # runs share no parameter: the sum's gradient is each run's own

    make = OPTIMISERS[config.optimiser]
    optimiser = make(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    rise = round(config.warm_up * config.train_steps)
    cosine = CosineAnnealingLR(optimiser, config.train_steps - rise)
    schedule = (
        SequentialLR(optimiser, [LinearLR(optimiser, 1 / (rise + 1), total_iters=rise), cosine], [rise]) if rise else cosine
    )
    batches, checkpoints = minibatches(len(train), config.batch_size, generator), config.checkpoint_steps
    replayed = Replayed(gradients)
    for step in range(1, config.train_steps + 1):
        for parameter, gradient in zip(parameters, replayed(next(batches).to(device)), strict=True):
            parameter.grad = gradient
        optimiser.step()
        schedule.step()
        advance(runs)
        if step in checkpoints:
            yield step, target.flatten({name: tensor.detach() for name, tensor in state.items()})


def minibatches(count: int, size: int, generator: np.random.Generator) -> Iterator[Int[Tensor, " batch"]]:
    """Endless minibatches of indices, a fresh permutation for every pass over the data."""
    while True:
        yield from torch.from_numpy(generator.permutation(count)).split(size)
