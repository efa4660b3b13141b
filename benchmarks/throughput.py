"""Throughput of training many targets at once, against a loop that trains them one at a time; same steps, same machine.

    python -m benchmarks.throughput         # about a minute on two cores
    python -m benchmarks.throughput --dataset mnist --device cuda

The loop is what one would write without this library: a module, its optimiser (the same, fused), the same minibatches and
sample weights, on the same device. The two are timed in turn, several times; the ratio to quote is the median over the turns.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from itertools import islice

import click
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from benchmarks import write_table
from benchmarks.trained import DATASETS
from hf_mlops import PopulationConfig, Split, Target, load_dataset, train_population
from hf_mlops.base.noise import generator_of
from hf_mlops.compute.device import choose_device
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.population.chunk import minibatches
from hf_mlops.population.config import OPTIMISERS
from hf_mlops.population.draw import draw_forget_sets

STEPS = 200
LOOPED = 4  # targets that are trained one at a time in each turn


def train_one(config: PopulationConfig, target: Target, train: Split, forgotten: torch.Tensor) -> None:
    """Trains a single target as an ordinary PyTorch loop."""
    device = train.images.device
    weight = (1 + config.weight_noise * (torch.rand(len(train), device=device) * 2 - 1)) * ~forgotten.to(device)[train.groups]
    network = copy.deepcopy(target.module).requires_grad_(True)
    make = OPTIMISERS[config.optimiser]
    optimiser = make(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.train_steps)
    for batch in islice(minibatches(len(train), config.batch_size, generator_of(0)), config.train_steps):
        batch = batch.to(device)
        loss = cross_entropy(network(train.images[batch]), train.labels[batch], reduction="none")
        optimiser.zero_grad()
        ((loss * weight[batch]).sum() / weight[batch].sum().clamp_min(1e-6)).backward()
        optimiser.step()
        schedule.step()
    next(network.parameters()).sum().item()  # waits for a GPU


@click.command(help=__doc__)
@click.option("--dataset", type=click.Choice(DATASETS), default="digits", show_default=True)
@click.option("--architecture", default="", help="By default that of the data set's first recipe.")
@click.option("--data-dir", default="", help="Folder with the data set's files; by default they are downloaded.")
@click.option("--turns", default=5, show_default=True)
@click.option("--device", default="auto", show_default=True)
def command(dataset: str, architecture: str, data_dir: str, turns: int, device: str) -> None:
    data, where = load_dataset(dataset, data_dir), choose_device(device)
    recipe = find_recipe(dataset, architecture).population
    one_chunk = replace(recipe, train_steps=STEPS, runs=recipe.chunk, reference_runs=1)
    target = Target.for_dataset(one_chunk.architecture, data).to(where)
    train, sets = data.train.to(where), draw_forget_sets(one_chunk, data.groups)
    rows = []
    for turn in range(turns):
        started = time.perf_counter()
        train_population(replace(one_chunk, seed=turn), data, where.type)
        together = (time.perf_counter() - started) / (len(sets.training) + len(sets.reference))
        started = time.perf_counter()
        for one in sets.training[:LOOPED]:
            train_one(one_chunk, target, train, one)
        alone = (time.perf_counter() - started) / LOOPED
        row = {"together (ms a target)": 1e3 * together, "alone (ms a target)": 1e3 * alone, "ratio": alone / together}
        rows.append({"turn": turn, **row})
    table = pd.DataFrame(rows)
    write_table(f"throughput-{dataset}-{one_chunk.architecture}-{where.type}", table)
    print(f"median ratio: {table['ratio'].median():.1f}")


if __name__ == "__main__":
    command()
