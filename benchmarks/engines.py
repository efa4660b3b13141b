"""A population trained in this process, against the same on a Ray cluster of this machine with two workers.

    python -m benchmarks.engines            # about three minutes on two cores

The process computes with as many threads as the cluster has workers, each of which has one. The two are timed in turn,
without the start of the cluster and of its workers; the ratio to quote is the median over the turns. Both must give the very
same population. Writes benchmarks/results/engines.csv.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")

import click
import pandas as pd
import ray
import torch

from benchmarks import write_table
from hf_mlops import Dataset, Engine, Population, PopulationConfig, load_dataset, train_population
from hf_mlops.hypernet.recipes import find_recipe


def timed(config: PopulationConfig, dataset: Dataset, engine: Engine) -> tuple[Population, float]:
    """A population, and the seconds that it took."""
    started = time.perf_counter()
    population = train_population(config, dataset, "cpu", engine)
    return population, time.perf_counter() - started


@click.command(help=__doc__)
@click.option("--turns", default=3, show_default=True)
@click.option("--workers", default=2, show_default=True)
def command(turns: int, workers: int) -> None:
    digits, config = load_dataset("digits"), find_recipe("digits").population
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    warm_up = PopulationConfig(runs=workers, train_steps=5, checkpoints=1, reference_runs=1, chunk=1)
    timed(warm_up, digits, Engine("ray"))  # now every worker has imported what it needs
    rows = []
    for turn in range(turns):
        here, seconds_here = timed(config, digits, Engine(threads=workers))
        there, seconds_there = timed(config, digits, Engine("ray"))
        rows.append(
            {
                "turn": turn,
                "in this process (s)": seconds_here,
                "on Ray (s)": seconds_there,
                "ratio": seconds_there / seconds_here,
                "the same": torch.equal(here.weights, there.weights) and torch.equal(here.losses, there.losses),
            }
        )
    table = pd.DataFrame(rows)
    write_table("engines", table)
    print(f"median ratio: {table['ratio'].median():.2f}")


if __name__ == "__main__":
    command()
