"""Quality of both DiHyFo forms in both weight spaces, on one population, beside the retrain reference.

    python -m benchmarks.quality            # about 15 minutes on two cores

Writes benchmarks/results/quality.csv: for each form and space the figures of README's table, then the same for the default
form with each number of denoising steps and without the behavioural loss.
"""

from __future__ import annotations

import time
from dataclasses import replace

import click
import pandas as pd

from benchmarks import write_table
from hf_mlops import HypernetConfig, PopulationConfig, Reference, load_dataset, train_hypernetwork, train_population
from hf_mlops.evaluation import (
    HELD_OUT_PAIR,
    LARGER,
    SEEN_PAIR,
    SINGLE,
    audit_specs,
    kind_of,
    prompt_alignment,
    prompt_sweep,
    spec_table,
    summary,
)
from hf_mlops.hypernetwork import DEFAULT_STEPS, Hypernetwork

DEFAULT = HypernetConfig()
CONFIGURATIONS = {
    "DiHyFo-2, latents": DEFAULT,
    "DiHyFo-1, latents": replace(DEFAULT, variant="dihyfo-1"),
    "DiHyFo-2, raw tokens": replace(DEFAULT, space="raw", token_width=64),
    "DiHyFo-1, raw tokens": replace(DEFAULT, variant="dihyfo-1", space="raw", token_width=64),
    "DiHyFo-2, latents, no behavioural loss": replace(DEFAULT, behaviour=0.0),
}


@click.command(help=__doc__)
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", default=0, show_default=True)
def command(device: str, seed: int) -> None:
    digits = load_dataset("digits")
    started = time.monotonic()
    population = train_population(PopulationConfig(seed=seed), digits, device)
    print(f"population: {time.monotonic() - started:.0f} s")
    reference = Reference.of(population, digits)
    rows = []
    for name, config in CONFIGURATIONS.items():
        started = time.monotonic()
        hypernetwork = train_hypernetwork(replace(config, seed=seed), population, digits, device)
        seconds = time.monotonic() - started
        sampled_with = (1, DEFAULT_STEPS, 10, 50) if config == DEFAULT else (DEFAULT_STEPS,)
        for steps in sampled_with:
            rows.append({"hypernetwork": name, "steps": steps, "training (s)": round(seconds)})
            rows[-1].update(figures(hypernetwork, reference, steps))
            write_table("quality", pd.DataFrame(rows))


def figures(hypernetwork: Hypernetwork, reference: Reference, steps: int) -> dict[str, float]:
    """One row of the table."""
    digits, specs = load_dataset("digits"), reference.specs()
    table = summary(spec_table(audit_specs(hypernetwork, reference, digits, specs, steps=steps), reference)).set_index("kind")
    row = {}
    for kind in (SINGLE, SEEN_PAIR, HELD_OUT_PAIR, LARGER):
        row[f"{kind}: D_f mean"] = table["forget accuracy"][kind]
        row[f"{kind}: D_f worst"] = table["worst"][kind]
        row[f"{kind}: D_r"] = table["retain accuracy"][kind]
        row[f"{kind}: D_r retrained"] = table["retrained"][kind]
        row[f"{kind}: gap"] = table["gap (points)"][kind]
        row[f"{kind}: worst gap"] = table["worst gap (points)"][kind]
    prompted = [spec for spec in specs if kind_of(spec, reference) in (SINGLE, HELD_OUT_PAIR)]
    alignment = prompt_alignment(prompt_sweep(hypernetwork, digits, prompted, steps=steps))
    return {**row, **{f"alignment {name}": value for name, value in alignment.items()}}


if __name__ == "__main__":
    command()
