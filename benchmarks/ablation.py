"""What each choice in the hypernetwork buys: the recipe of a data set, and variations of it that each change one thing.

    python -m benchmarks.ablation --dataset digits                     # all of them, four to six minutes each on two cores
    python -m benchmarks.ablation --dataset digits --only "latents"    # one; the table keeps its other rows

Writes benchmarks/results/ablation-DATASET-NETWORK.csv.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
import pandas as pd

from benchmarks import RESULTS, write_table
from benchmarks.quality import figures
from benchmarks.trained import Trained, options, trained
from hf_mlops import Reference, train_hypernetwork, train_population
from hf_mlops.hypernetwork import DEFAULT_STEPS

HYPERNET: dict[str, dict[str, Any]] = {
    "recipe": {},
    "DiHyFo-1": {"variant": "dihyfo-1"},
    "latents": {"space": "latent", "components": 128},
    "DiHyFo-1, latents": {"variant": "dihyfo-1", "space": "latent", "components": 128},
    "half the components": {"components": 64},
    "no behavioural loss": {"behaviour": 0.0},
    "behavioural loss 1": {"behaviour": 1.0},
    "behavioural loss 10": {"behaviour": 10.0},
    "256 images, 64 rows": {"images": 256, "batch_size": 64},
    "images not mixed": {"mix": 0.0},
    "half the width": {"width": 64},
    "half the layers": {"layers": 2},
    "twice the steps": {"steps": 5600},
    "half the steps": {"steps": 1400},
    "token width 64": {"token_width": 64},
    "learning rate 1e-3": {"learning_rate": 1e-3},
}
POPULATION: dict[str, dict[str, Any]] = {
    "AdamW targets": {"optimiser": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-2},
    "targets at learning rate 0.1": {"learning_rate": 0.1},
    "half the runs": {"runs": 1024},
    "half the sample weight noise": {"weight_noise": 0.25},
    "data order for every 32 runs": {"chunk": 32},
    "two checkpoints": {"checkpoints": 2},
}


@click.command(help=__doc__)
@options
@click.option("--only", type=click.Choice([*HYPERNET, *POPULATION]), help="One variation; the table keeps its other rows.")
def command(only: str | None, **choice: Any) -> None:
    base = trained(**choice)
    device, file = choice["device"], RESULTS / f"ablation-{base.name}.csv"
    rows = pd.read_csv(file).to_dict("records") if only and file.exists() else []
    for name in [only] if only else [*HYPERNET, *POPULATION]:
        row = {"variation": name, **figures(vary(name, base, device), DEFAULT_STEPS)[0]}
        rows = [*(one for one in rows if one["variation"] != name), row]
        write_table(f"ablation-{base.name}", pd.DataFrame(rows))


def vary(name: str, base: Trained, device: str) -> Trained:
    """The recipe with one thing changed, trained."""
    if name == "recipe":
        return base
    started = time.monotonic()
    population, reference = base.population, base.reference
    if name in POPULATION:
        population = train_population(replace(population.config, **POPULATION[name]), base.dataset, device)
        reference = Reference.of(population, base.dataset)
    middle = time.monotonic()
    config = replace(base.hypernetwork.config, **HYPERNET.get(name, {}))
    hypernetwork = train_hypernetwork(config, population, base.dataset, device)
    seconds = {"population": middle - started, "hypernetwork": time.monotonic() - middle}
    return Trained(base.name, base.dataset, population, hypernetwork, reference, seconds)


if __name__ == "__main__":
    command()
