"""Throughput of training many targets at once, against a loop that trains them one at a time; same steps, same machine.

    python -m benchmarks.throughput         # about a minute on two cores

The loop is what one would write without this library: a module, its optimiser (the same fused AdamW), the same minibatches and
sample weights. The two are timed in turn, several times; the ratio to quote is the median over the turns.
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
from hf_mlops import PopulationConfig, Split, Target, load_dataset, train_population
from hf_mlops.base.noise import generator_of
from hf_mlops.population.chunk import minibatches
from hf_mlops.population.draw import draw_forget_sets


def train_one(config: PopulationConfig, target: Target, train: Split, forgotten: torch.Tensor) -> None:
    """Trains a single target as an ordinary PyTorch loop."""
    weight = (1 + config.weight_noise * (torch.rand(len(train)) * 2 - 1)) * ~forgotten[train.groups]
    network = copy.deepcopy(target.module).requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.train_steps)
    for batch in islice(minibatches(len(train), config.batch_size, generator_of(0)), config.train_steps):
        loss = cross_entropy(network(train.images[batch]), train.labels[batch], reduction="none")
        optimiser.zero_grad()
        ((loss * weight[batch]).sum() / weight[batch].sum().clamp_min(1e-6)).backward()
        optimiser.step()
        schedule.step()


@click.command(help=__doc__)
@click.option("--architecture", default="mlp-16", show_default=True)
@click.option("--turns", default=5, show_default=True)
@click.option("--device", default="auto", show_default=True, help="Of the population; the loop runs on the CPU.")
def command(architecture: str, turns: int, device: str) -> None:
    digits = load_dataset("digits")
    one_chunk = PopulationConfig(architecture=architecture, train_steps=200, runs=128, reference_runs=1)
    target = Target.for_dataset(architecture, digits)
    sets = draw_forget_sets(one_chunk, 10)
    rows = []
    for turn in range(turns):
        started = time.perf_counter()
        train_population(replace(one_chunk, seed=turn), digits, device)
        together = (time.perf_counter() - started) / (len(sets.training) + len(sets.reference))
        started = time.perf_counter()
        for one in sets.training[:4]:
            train_one(one_chunk, target, digits.train, one)
        alone = (time.perf_counter() - started) / 4
        rows.append(
            {
                "turn": turn,
                "together (ms a target)": 1e3 * together,
                "alone (ms a target)": 1e3 * alone,
                "ratio": alone / together,
            }
        )
    table = pd.DataFrame(rows)
    write_table("throughput", table)
    print(f"median ratio: {table['ratio'].median():.1f}")


if __name__ == "__main__":
    command()
