"""Quality of both DiHyFo forms in both weight spaces, on one population, beside the retrain reference.

    python -m benchmarks.quality            # about 20 minutes on two cores

Writes benchmarks/results/quality.csv: the figures of README's table and more for each form and space; for the default also with
other numbers of denoising steps.
"""

from __future__ import annotations

import time
from dataclasses import replace

import click
import pandas as pd
import torch
from torch.nn.functional import one_hot

from benchmarks import RESULTS, write_table
from hf_mlops import (
    Dataset,
    HypernetConfig,
    Hypernetwork,
    Population,
    PopulationConfig,
    Reference,
    Target,
    load_dataset,
    train_hypernetwork,
    train_population,
)
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
from hf_mlops.hypernetwork import DEFAULT_STEPS

DEFAULT = HypernetConfig()
CONFIGURATIONS = {
    "DiHyFo-2, raw tokens": DEFAULT,
    "DiHyFo-1, raw tokens": replace(DEFAULT, variant="dihyfo-1"),
    "DiHyFo-2, latents": replace(DEFAULT, space="latent"),
    "DiHyFo-1, latents": replace(DEFAULT, variant="dihyfo-1", space="latent"),
}


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(list(CONFIGURATIONS)), help="Measure one of them; the table keeps its other rows.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", default=0, show_default=True)
def command(only: str | None, device: str, seed: int) -> None:
    digits = load_dataset("digits")
    population = train_population(PopulationConfig(seed=seed), digits, device)
    reference = Reference.of(population, digits)
    file = RESULTS / "quality.csv"
    rows = pd.read_csv(file).to_dict("records") if only and file.exists() else []
    for name in [only] if only else CONFIGURATIONS:
        rows = [row for row in rows if row["hypernetwork"] != name]
        started = time.monotonic()
        hypernetwork = train_hypernetwork(replace(CONFIGURATIONS[name], seed=seed), population, digits, device)
        seconds = time.monotonic() - started
        for steps in (1, DEFAULT_STEPS, 10, 50) if CONFIGURATIONS[name] == DEFAULT else (DEFAULT_STEPS,):
            rows.append({"hypernetwork": name, "steps": steps, "training (s)": round(seconds)})
            rows[-1].update(figures(hypernetwork, population, reference, digits, steps))
            write_table("quality", pd.DataFrame(rows))


def figures(
    hypernetwork: Hypernetwork, population: Population, reference: Reference, digits: Dataset, steps: int
) -> dict[str, float]:
    """One row of the table."""
    specs = reference.specs()
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
    singles = [spec for spec in specs if kind_of(spec, reference) == SINGLE]
    finished = population.reference & population.final
    sampled, retrained = [], []
    for spec in singles:
        kept = digits.test.images[~torch.tensor(spec.mask)[digits.test.groups]]
        runs = finished & (population.forgotten == torch.tensor(spec.mask)).all(1)
        sampled.append(agreement(hypernetwork.target, hypernetwork.sample(spec, int(runs.sum()), steps=steps).weights, kept))
        retrained.append(agreement(hypernetwork.target, population.weights[runs], kept))
    row["single: agreement of two samples"] = sum(sampled) / len(singles)
    row["single: agreement of two retrained"] = sum(retrained) / len(singles)
    alignment = prompt_alignment(prompt_sweep(hypernetwork, digits, prompted, steps=steps))
    return {**row, **{f"alignment {name}": value for name, value in alignment.items()}}


def agreement(target: Target, weights: torch.Tensor, images: torch.Tensor) -> float:
    """Share of images (B, ...) on which two classifiers, of N different ones (N, P), predict the same class."""
    votes = one_hot(target.logits(weights, images).argmax(-1)).sum(0).double()  # (B, classes)
    return float(((votes.square().sum(1) - len(weights)) / (len(weights) * (len(weights) - 1))).mean())


if __name__ == "__main__":
    command()
