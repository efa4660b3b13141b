"""What is left to chance in targets: optimisers compared by how much runs of one forget set differ, and how accurate they are.

    python -m benchmarks.noise --dataset mnist

Every run has a data order and sample weights of its own. "average" is the accuracy of the mean of the runs' weights: high only
if they lie together. "signal to noise" is the squared distance between the mean weights of two forget sets over the variance
within one. Writes benchmarks/results/noise-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from dataclasses import replace

import click
import pandas as pd
import torch

from benchmarks import write_table
from hf_mlops import ForgetSpec, Target, load_dataset, retrain
from hf_mlops.audit.measure import measure
from hf_mlops.hypernet.recipes import find_recipe

RUNS = 6
SETTINGS = (
    {},  # the recipe's
    {"learning_rate": 0.1},
    {"learning_rate": 0.02},
    {"warm_up": 0.0},
    {"warm_up": 0.0, "learning_rate": 0.1},
    {"warm_up": 0.5},
    {"weight_decay": 1e-4},
    {"weight_noise": 0.0},
    {"optimiser": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-2},
    {"optimiser": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2},
)


@click.command(help=__doc__)
@click.option("--dataset", default="digits", show_default=True)
@click.option("--architecture", default="")
@click.option("--data-dir", default="")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", default=0, show_default=True)
def command(dataset: str, architecture: str, data_dir: str, device: str, seed: int) -> None:
    data, recipe = load_dataset(dataset, data_dir), replace(find_recipe(dataset, architecture).population, seed=seed)
    target = Target.for_dataset(recipe.architecture, data, recipe.scope, seed)
    specs = [ForgetSpec.of(groups, data.groups.names) for groups in ((), (7,))]
    masks = torch.tensor([spec.mask for spec in specs])
    configs, rows = {}, []
    for setting in SETTINGS:
        configs.setdefault(replace(recipe, **setting), setting)  # some may be what the recipe has
    for config, setting in configs.items():
        weights = retrain(config, data, masks.repeat(RUNS, 1), seed, device, together=len(specs)).unflatten(0, (RUNS, -1))
        means = weights.mean(0)  # (specs, P)
        row: dict[str, object] = {"setting": ", ".join(f"{name} {value}" for name, value in setting.items()) or "recipe"}
        for number, spec in enumerate(specs):
            measured = measure(target, torch.cat([weights[:, number], means[number, None]]), spec, data.test)
            accuracy = measured.accuracy_on_sets().retain
            runs = measure(target, weights[:, number], spec, data.test)
            name = f"forget {spec}" if spec.groups else "forget nothing"
            row |= {f"{name}: accuracy": accuracy[:-1].mean().item(), f"{name}: average": accuracy[-1].item()}
            row |= {f"{name}: disagreement": runs.disagreement()}
        noise = weights.var(0).mean().item()
        row["signal to noise"] = ((means[0] - means[1]).square().mean().item() - 2 * noise / RUNS) / noise
        rows.append(row)
        write_table(f"noise-{dataset}-{recipe.architecture}", pd.DataFrame(rows))


if __name__ == "__main__":
    command()
