"""Selection: what drawing several candidates buys, by choice or by averaging, and how much validation data the choice needs.

    python -m benchmarks.selection --dataset digits

For every single class and every pair never trained together. "images" is how many validation images the choice may see; 0 is
the data-free case. Writes benchmarks/results/selection-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import Split, best_fit
from hf_mlops.audit.measure import measure
from hf_mlops.audit.tables import HELD_OUT_PAIR, SINGLE, kind_of
from hf_mlops.base.noise import generator_of, seed_of

CANDIDATES, DRAWS = 8, 8
IMAGES = (30, 100, 300, 5000)


@click.command(help=__doc__)
@options
def command(**choice: Any) -> None:
    made = trained(**choice)
    target, data, reference = made.hypernetwork.target, made.dataset, made.reference
    specs = [spec for spec in reference.specs() if kind_of(spec, reference) in (SINGLE, HELD_OUT_PAIR)]
    order = torch.from_numpy(generator_of(seed_of("selection", choice["seed"])).permutation(len(data.validation)))
    rows = []
    for spec in specs:
        retrained = reference.beside(spec)
        wanted = retrained.accuracy_on_sets().retain.mean()
        for draw in range(DRAWS):
            samples = made.hypernetwork.sample(spec, CANDIDATES, choice["seed"] + draw * CANDIDATES)
            measured = measure(target, samples.weights, spec, data.test)
            retain, forget = measured.accuracy_on_sets()
            lowest = measure(target, samples.weights, spec, data.validation)
            picks = {("one sample", 0): 0, ("most accurate on the test images (not to be had)", 0): int(retain.argmax())}
            for images in sorted({min(images, len(order)) for images in IMAGES}):
                seen = replace(data, validation=part(data.validation, order[:images]))
                picks["closest to its prompt", images] = best_fit(target, samples, seen)
            picks["lowest loss on D_r", len(order)] = int(lowest.loss_on_sets().retain.argmin())
            for (way, images), index in picks.items():
                rows.append({"way": way, "images": images, "gap": wanted - retain[index], "D_f": forget[index]})
            mean = measure(target, samples.weights.mean(0, keepdim=True), spec, data.test)
            retain, forget = mean.accuracy_on_sets()
            rows.append({"way": "average of the weights", "images": 0, "gap": wanted - retain[0], "D_f": forget[0]})
    table = pd.DataFrame(rows).astype({"gap": float, "D_f": float})
    table["gap"] *= 100
    by_way = table.groupby(["way", "images"], sort=False).agg(
        gap=("gap", "mean"), worst_gap=("gap", "max"), forget_accuracy=("D_f", "mean"), worst_forget_accuracy=("D_f", "max")
    )
    write_table(f"selection-{made.name}", by_way.reset_index())


def part(split: Split, index: torch.Tensor) -> Split:
    """Some images of a split."""
    return Split(split.images[index], split.labels[index], split.groups[index])


if __name__ == "__main__":
    command()
