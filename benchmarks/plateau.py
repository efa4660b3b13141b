"""Has the training of targets reached its plateau? Validation accuracy with fewer optimiser steps than the recipe, and more.

    python -m benchmarks.plateau --dataset digits

Each row is of fresh targets by the recipe but for the number of steps; half forget nothing, half the first class. "gain"
is in points of accuracy on D_r of the validation split over the recipe's own number of steps, with its standard error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.trained import options
from hf_mlops import ForgetSpec, Target, load_dataset, retrain
from hf_mlops.audit.measure import measure
from hf_mlops.hypernet.recipes import find_recipe

FACTORS = (1.0, 0.5, 2.0)  # of the recipe's steps, the recipe itself first


@click.command(help=__doc__)
@options
@click.option("--targets", default=16, show_default=True, help="Of each of the two specs.")
def command(dataset: str, architecture: str | None, data_dir: str, device: str, seed: int, targets: int, **others: Any) -> None:
    config, data = find_recipe(dataset, architecture or "").population, load_dataset(dataset, data_dir)
    target = Target.for_dataset(config.architecture, data, config.scope, config.seed)
    specs = [ForgetSpec.of(groups, data.groups.names) for groups in ((), (0,))]
    masks = torch.tensor([spec.mask for spec in specs]).repeat(targets, 1)
    rows, own = [], torch.empty(0)
    for factor in FACTORS:
        longer = replace(config, train_steps=round(factor * config.train_steps))
        weights = retrain(longer, data, masks, seed, device, together=4 * len(specs))  # four share a data order
        row: dict[str, float] = {"train steps": longer.train_steps}
        for name, split in (("training", data.train), ("validation", data.validation), ("test", data.test)):
            found = [measure(target, weights[n :: len(specs)], spec, split) for n, spec in enumerate(specs)]
            each = torch.cat([one.accuracy_on_sets().retain for one in found])
            row[f"{name} accuracy"] = each.mean().item()
            if name == "validation":
                own = each if factor == 1 else own
                gains = each - own  # the same data orders and sample weights
                row["gain (points)"] = 100 * gains.mean().item()
                row["standard error"] = 100 * gains.std().item() / len(gains) ** 0.5
        rows.append(row)
    write_table(f"plateau-{dataset}-{config.architecture}", pd.DataFrame(rows).sort_values("train steps"))


if __name__ == "__main__":
    command()
