"""When has training paid for itself? Against retraining for each request, and against a table of retrained sets.

    python -m benchmarks.breakeven --dataset digits      # a minute; some for MNIST
    python -m benchmarks.breakeven --dataset digits --groups class-shard:10

Costs are counted from rates that are measured in turns in one run, in seconds of the processor: of targets trained together and
alone, of the hypernetwork's optimiser steps, and of a request (one sample). A table holds retrained targets that are trained
together: of every proper set of the groups, or of every set of two or three groups at most. Other numbers of groups than the
data set has are counted with as many targets as the recipe draws for them, and as if a target and the hypernetwork cost the
same. Of eight cores each is counted to train chunks of targets by itself, and one of them to train the hypernetwork or a single
target.

The picture counts with retrainings that cost more, for more data or steps: then targets that are trained together cost more in
the same proportion, and the hypernetwork of the same network costs what it does. Writes
benchmarks/results/breakeven-DATASET-NETWORK.csv and docs/pictures/breakeven-DATASET-NETWORK.png.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from benchmarks import PICTURES, write_table
from benchmarks.trained import options
from hf_mlops import Dataset, Groups, PopulationConfig, load_dataset, retrain, train_population
from hf_mlops.data.dataset import LIMIT
from hf_mlops.hypernet.recipes import Recipe, find_recipe
from hf_mlops.hypernet.training import Trainer
from hf_mlops.population.draw import draw_forget_sets
from hf_mlops.report import pictures

GROUPS = (10, 20, 50, 100)
CORES = (1, 8)
UNIONS = (2, 3, LIMIT)  # groups in a set of a table, at most; of `LIMIT` it is every set
HOUR = 3600.0
RETRAININGS = np.geomspace(0.5, 10 * HOUR, 41)  # seconds
TARGET_STEPS, HYPERNET_STEPS, REQUESTS = 40, 5, 20  # timed in each turn


@dataclass(frozen=True)
class Rates:
    """Seconds of one core.

    Args:
        alone: of one target retrained for a request.
        together: of one of many targets that are trained together.
        hypernetwork: of its training.
        request: of a sample.
    """

    alone: float
    together: float
    hypernetwork: float
    request: float

    def at(self, alone: float) -> Rates:
        """Where a retraining costs so much: in proportion when trained together, and the rest as it is."""
        return replace(self, alone=alone, together=self.together * alone / self.alone)

    def once(self, targets: int, cores: int) -> float:
        """Seconds until a population of so many targets and its hypernetwork are trained."""
        return targets * self.together / cores + self.hypernetwork

    def requests(self, targets: int, cores: int) -> float:
        """After how many requests retraining for each would have taken as long."""
        return self.once(targets, cores) / (self.alone - self.request)

    def table(self, sets: int, cores: int) -> float:
        """Seconds until a target is retrained for each of so many sets."""
        return sets * self.together / cores


def sets_of(groups: int, most: int) -> int:
    """How many proper sets there are of so many groups, of `most` at most; none of them empty."""
    return sum(comb(groups, size) for size in range(1, min(most, groups - 1) + 1))


def targets_of(config: PopulationConfig, groups: Groups) -> int:
    """Training runs and retrained targets of the reference."""
    sets = draw_forget_sets(config, groups)
    return config.runs + sets.retrained * len(sets.reference)


def numbered(groups: int) -> Groups:
    """So many groups."""
    return Groups.of_classes(str(group) for group in range(groups))


def cheaper_up_to(rates: Rates, targets: Mapping[int, int], most: int, cores: int) -> int:
    """Up to how many groups a table of all sets of `most` groups at most costs less than to train once.

    Args:
        targets: of a population, by the number of groups.
    """
    return max(
        groups for groups, count in targets.items() if rates.table(sets_of(groups, most), cores) < rates.once(count, cores)
    )


def measured(recipe: Recipe, data: Dataset, device: str, seed: int, turns: int) -> Rates:
    """Rates of a recipe, each of the quickest of its turns: what else the machine does only adds to them."""
    config = replace(recipe.population, train_steps=TARGET_STEPS, checkpoints=1, seed=seed)
    masks = torch.eye(len(data.groups), dtype=torch.bool).repeat(config.chunk, 1)[: config.chunk]
    few = train_population(replace(config, runs=config.chunk, checkpoints=2, reference_runs=1), data, device)
    trainer = Trainer(recipe.hypernet, few, data, device)
    hypernetwork, spec = trainer.hypernetwork, data.groups.names[0]
    seconds: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], object], times: int = 1) -> None:
        started = time.process_time()
        for _ in range(times):
            work()
        seconds.setdefault(what, []).append((time.process_time() - started) / times)

    trainer.train_step(), hypernetwork.sample(spec)  # what comes only once
    first_step = replace(config, train_steps=1)
    for _ in range(turns):
        for what, some in (("together", masks), ("alone", masks[:1])):
            timed(f"{what}, first step", partial(retrain, first_step, data, some, seed, device))
            timed(what, partial(retrain, config, data, some, seed, device))
        timed("step", trainer.train_step, HYPERNET_STEPS)
        timed("request", lambda: hypernetwork.sample(spec), REQUESTS)
    quickest = {what: min(each) for what, each in seconds.items()}

    def whole(what: str) -> float:
        """Of a training to its end: of its first step, all preparations included, and of the others."""
        first = quickest[f"{what}, first step"]
        return first + (recipe.population.train_steps - 1) * (quickest[what] - first) / (TARGET_STEPS - 1)

    hypernet = recipe.hypernet.train_steps * quickest["step"]
    return Rates(whole("alone"), whole("together") / config.chunk, hypernet, quickest["request"])


def counted(rates: Rates, config: PopulationConfig, groups: Sequence[Groups]) -> pd.DataFrame:
    """A row for each number of groups and of cores."""
    rows = []
    for one in groups:
        targets = targets_of(config, one)
        for cores in CORES:
            tables = {f"of {most}" if most < LIMIT else "of any": sets_of(len(one), most) for most in UNIONS}
            rows.append(
                {
                    "groups": len(one),
                    "cores": cores,
                    "targets": targets,
                    "trained once (s)": rates.once(targets, cores),
                    "of it the hypernetwork (s)": rates.hypernetwork,
                    "one retraining (s)": rates.alone,
                    "one of 128 together (s)": rates.together,
                    "a request (s)": rates.request,
                    "requests to break even": rates.requests(targets, cores),
                    "where a retraining takes an hour": rates.at(HOUR).requests(targets, cores),
                    **{f"a table of unions {of} (s)": rates.table(sets, cores) for of, sets in tables.items()},
                }
            )
    return pd.DataFrame(rows)


def curves(rates: Rates, config: PopulationConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Over the seconds of one retraining: requests to break even, and up to how many groups tables are cheaper."""
    targets = {groups: targets_of(config, numbered(groups)) for groups in range(2, LIMIT + 1)}
    requests, tables = [], []
    for retraining in RETRAININGS:
        dearer = rates.at(float(retraining))
        for cores in CORES:
            at = {"retraining": retraining, "cores": cores}
            for groups in GROUPS:
                requests.append({**at, "groups": groups, "requests": dearer.requests(targets[groups], cores)})
            for most in UNIONS:
                tables.append({**at, "unions": most, "groups": cheaper_up_to(dearer, targets, most, cores)})
    return pd.DataFrame(requests), pd.DataFrame(tables)


@click.command(help=__doc__)
@options
@click.option("--turns", default=7, show_default=True, help="Of each kind of work that are timed.")
def command(
    dataset: str, architecture: str | None, groups: str, data_dir: str, device: str, seed: int, turns: int, **others: Any
) -> None:
    data = load_dataset(dataset, data_dir, groups)
    recipe = find_recipe(dataset, architecture or "", data.groups.are_classes)
    rates, config = measured(recipe, data, device, seed, turns), recipe.population
    others_too = [numbered(count) for count in GROUPS if count != len(data.groups)]
    table = counted(rates, config, sorted([data.groups, *others_too], key=len))
    name = f"breakeven-{dataset}-{config.architecture}" + f"-{len(data.groups)}-groups" * bool(groups)
    write_table(name, table)
    if not groups:
        PICTURES.mkdir(exist_ok=True)
        picture = pictures.paid_for_itself(*curves(rates, config), rates.alone, LIMIT, f"{dataset}, {config.architecture}")
        picture.savefig(PICTURES / f"{name}.png", dpi=80)


if __name__ == "__main__":
    command()
