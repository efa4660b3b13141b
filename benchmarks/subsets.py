"""Every proper subset of the classes as a forget set, 1,022 of them for ten classes, beside a target retrained for each.

    python -m benchmarks.subsets --dataset digits

Writes benchmarks/results/subsets-DATASET-NETWORK.csv (a row per subset) and docs/pictures/subsets-DATASET-NETWORK.png.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import PICTURES, RESULTS
from benchmarks.trained import options, trained
from hf_mlops import Reference, retrain
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import spec_table
from hf_mlops.report import pictures

SAMPLES = 8
SPECS_AT_ONCE = 128  # audited together: outputs of all of them on MNIST are 4 GB


@click.command(help=__doc__)
@options
def command(**choice: Any) -> None:
    made = trained(**choice)
    groups = len(made.dataset.groups)
    masks = torch.tensor([mask for mask in product((False, True), repeat=groups) if any(mask) and not all(mask)])
    weights = retrain(made.population.config, made.dataset, masks, choice["seed"], choice["device"])
    reference = Reference.of_targets(made.population, weights, masks, made.dataset)
    specs = reference.specs()
    tables = []
    for first in range(0, len(specs), SPECS_AT_ONCE):
        some = specs[first : first + SPECS_AT_ONCE]
        audits = audit_specs(made.hypernetwork, reference, made.dataset, some, SAMPLES, choice["seed"])
        tables.append(spec_table(audits, reference))
    table = pd.concat(tables, ignore_index=True)
    known = {tuple(mask) for mask in made.population.forgotten[~made.population.reference].tolist()}
    table["trained on"] = [tuple(spec.mask) in known for spec in specs]
    table["classes"] = [len(spec.groups) for spec in specs]
    table["gap"] = 100 * (table["reference_retain_accuracy"] - table["retain_accuracy"])
    table["forget gap"] = 100 * (table["forget_accuracy"] - table["reference_forget_accuracy"])
    RESULTS.mkdir(exist_ok=True)
    columns = ["forget", "classes", "trained on", "gap", "forget gap", "retain_accuracy", "retain_accuracy_worst"]
    columns += ["reference_retain_accuracy", "forget_accuracy", "forget_accuracy_worst"]
    table[columns].to_csv(RESULTS / f"subsets-{made.name}.csv", index=False, float_format="%.5g")
    by_size = table.groupby(["classes", "trained on"])[["gap", "forget gap", "forget_accuracy_worst"]]
    print(by_size.agg(["count", "mean", "max"]).to_string(float_format="%.3f"))
    some = table[table["classes"] <= 5]
    print(
        f"\n1 to 5 classes: mean gap {some['gap'].mean():.3f} points, mean accuracy on D_f {some['forget_accuracy'].mean():.5f}"
    )
    print("\nthe worst ten by gap\n", table.nlargest(10, "gap")[columns[:7]].to_string(index=False, float_format="%.3f"))
    print("\nthe worst ten by D_f\n", table.nlargest(10, "forget gap")[columns[:7]].to_string(index=False, float_format="%.3f"))
    PICTURES.mkdir(exist_ok=True)
    pictures.gaps_by_size(table).savefig(PICTURES / f"subsets-{made.name}.png", dpi=80)


if __name__ == "__main__":
    command()
