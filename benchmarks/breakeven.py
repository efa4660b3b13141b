"""When has training paid for itself? Against retraining for each request, and against a table of every retrained set.

    python -m benchmarks.breakeven --dataset digits      # half a minute; a few for MNIST
    python -m benchmarks.breakeven --dataset digits --groups class-shard:10

Costs are counted from rates that are measured in turns in one run: of targets trained together and alone, of the hypernetwork's
optimiser steps, and of a request (one sample). A table holds a target retrained for every proper set of the groups, trained
together. More groups than the data set has are counted as if a target and the hypernetwork cost no more for them. Of eight
cores each is counted to train chunks of targets by itself, and one of them to train the hypernetwork or a single target.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.trained import options
from hf_mlops import load_dataset, retrain, train_population
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.hypernet.training import Trainer
from hf_mlops.population.draw import draw_forget_sets

GROUPS = (10, 12, 15, 20)
CORES = (1, 8)
TARGET_STEPS, HYPERNET_STEPS, REQUESTS = 40, 5, 20  # timed in each turn


@click.command(help=__doc__)
@options
@click.option("--turns", default=3, show_default=True)
def command(
    dataset: str, architecture: str | None, groups: str, data_dir: str, device: str, seed: int, turns: int, **others: Any
) -> None:
    recipe, data = find_recipe(dataset, architecture or ""), load_dataset(dataset, data_dir, groups)
    config = replace(recipe.population, train_steps=TARGET_STEPS, checkpoints=1, seed=seed)
    masks = torch.eye(len(data.groups), dtype=torch.bool).repeat(config.chunk, 1)[: config.chunk]
    few = train_population(replace(config, runs=config.chunk, checkpoints=2, reference_runs=1), data, device)
    trainer = Trainer(recipe.hypernet, few, data, device)
    hypernetwork, spec = trainer.hypernetwork, data.groups.names[0]
    seconds: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], object], times: int = 1) -> None:
        started = time.perf_counter()
        for _ in range(times):
            work()
        seconds.setdefault(what, []).append((time.perf_counter() - started) / times)

    trainer.train_step(), hypernetwork.sample(spec)  # what comes only once
    first_step = replace(config, train_steps=1)
    for _ in range(turns):
        for what, some in (("together", masks), ("alone", masks[:1])):
            timed(f"{what}, first step", partial(retrain, first_step, data, some, seed, device))
            timed(what, partial(retrain, config, data, some, seed, device))
        timed("step", trainer.train_step, HYPERNET_STEPS)
        timed("request", lambda: hypernetwork.sample(spec), REQUESTS)
    median = {what: float(pd.Series(each).median()) for what, each in seconds.items()}

    def whole(what: str) -> float:
        """Seconds of a training to its end: of its first step, all preparations included, and of the others."""
        first = median[f"{what}, first step"]
        return first + (recipe.population.train_steps - 1) * (median[what] - first) / (TARGET_STEPS - 1)

    one, alone = whole("together") / config.chunk, whole("alone")
    sets, rows = draw_forget_sets(recipe.population, data.groups), []
    for cores in CORES:
        targets = (recipe.population.runs + sets.retrained * len(sets.reference)) * one / cores
        once = targets + recipe.hypernet.train_steps * median["step"]
        rows.append(
            {
                "recipe": f"{dataset} {recipe.population.architecture}",
                "groups": len(data.groups),
                "cores": cores,
                "trained once (s)": once,
                "one retraining (s)": alone,
                "one of 128 together (s)": one,
                "a request (s)": median["request"],
                "requests to break even": once / (alone - median["request"]),
                **{
                    f"a table for {count} groups (s)": (2**count - 2) * one / cores
                    for count in sorted({*GROUPS, len(data.groups)})
                },
            }
        )
    grouped = f"-{len(data.groups)}-groups" if groups else ""
    write_table(f"breakeven-{dataset}-{recipe.population.architecture}{grouped}", pd.DataFrame(rows))


if __name__ == "__main__":
    command()
