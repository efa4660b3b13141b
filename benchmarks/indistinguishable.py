"""Can samples be told from freshly retrained targets? Two-sample tests on test losses, confidences and accuracies per class.

    python -m benchmarks.indistinguishable --dataset digits

For each spec: samples against fresh targets, and one half of the fresh targets against the other, which is what chance gives.
"alone" is what a logistic regression tells from losses, confidences or accuracies by themselves; "same means" and "same means
and covariance" are what gradient boosting still tells from losses and confidences once samples are given those of one half of
the fresh targets, against the other half. "off" is by how many standard deviations of fresh targets the mean log loss of
samples on a class of D_r is off, root mean square. Each fresh target has a data order and sample weights of its own. Writes
benchmarks/results/indistinguishable-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import Dataset, ForgetSpec, Target, retrain
from hf_mlops.audit import measure
from hf_mlops.twosample import behaviour, tell_apart

SPECS = ("", "1", "7", "3,8", "0,4,9")
STEPS_COMPARED = (1, 2, 5, 10, 25)
MEASURES = ("log losses", "confidences", "accuracies")
LINEAR, TREES = "logistic regression", "gradient boosting"


@click.command(help=__doc__)
@options
@click.option("--targets", default=128, show_default=True, help="Fresh targets, and samples, of each spec.")
def command(targets: int, **choice: Any) -> None:
    made = trained(**choice)
    data, hypernetwork = made.dataset, made.hypernetwork
    specs = [ForgetSpec.parse(text, data.group_names) for text in SPECS]
    masks = torch.tensor([spec.mask for spec in specs])
    seed, together = choice["seed"], len(specs)  # one of each spec shares a data order
    fresh = retrain(made.population.config, data, masks.repeat(targets, 1), seed, choice["device"], together).unflatten(
        0, (-1, together)
    )
    rows = []
    for number, spec in enumerate(specs):
        real = fresh[:, number]
        others = {str(steps): hypernetwork.sample(spec, targets, seed, steps).weights for steps in STEPS_COMPARED}
        chance = compare(hypernetwork.target, *real.chunk(2), spec, data)
        rows.append({"forget": str(spec), "steps": "fresh against fresh", **chance})
        for steps, weights in others.items():
            row = {"forget": str(spec), "steps": steps, **compare(hypernetwork.target, real, weights, spec, data)}
            rows.append({**row, **once_matched(hypernetwork.target, real, weights, spec, data)})
    write_table(f"indistinguishable-{made.name}", pd.DataFrame(rows))
    means = pd.DataFrame(rows).groupby("steps", sort=False).mean(numeric_only=True)
    print(means.T.to_string(float_format="%.3f"))


def compare(target: Target, real: Tensor, sampled: Tensor, spec: ForgetSpec, data: Dataset) -> dict[str, float]:
    """Areas under the ROC curve, of both judges on everything and of one on each measure alone, and what tells them apart."""
    groups, kept = len(data.group_names), ~torch.tensor(spec.mask)
    first, second = (behaviour(target, weights, data.test, groups) for weights in (real, sampled))
    result = tell_apart(first, second)
    for name, *pair in zip(MEASURES, first.chunk(3, 1), second.chunk(3, 1), strict=True):
        result[f"{name} alone"] = tell_apart(*pair, judges=[LINEAR])[LINEAR]
    for name, split in (("training", data.train), ("test", data.test)):
        one, other = (behaviour(target, weights, split, groups)[:, :groups][:, kept] for weights in (real, sampled))
        result[f"off, {name} images"] = float(((other.mean(0) - one.mean(0)) / one.std(0)).square().mean().sqrt())
    result["spread of log loss"] = float(second[:, :groups][:, kept].std(0).mean())
    result["disagreement"] = measure(target, sampled, spec, data.test).disagreement()
    return result


def once_matched(target: Target, real: Tensor, sampled: Tensor, spec: ForgetSpec, data: Dataset) -> dict[str, float]:
    """Area under the ROC curve of gradient boosting once samples have the mean, or mean and covariance, of fresh targets."""
    groups = len(data.group_names)
    first, second = (behaviour(target, weights, data.test, groups)[:, : 2 * groups].double() for weights in (real, sampled))
    like, judged = first.chunk(2)
    centred = second - second.mean(0)
    whitened = centred @ root(centred.T.cov(), -0.5) @ root(like.T.cov(), 0.5)
    return {
        name: tell_apart(judged, rows + like.mean(0), judges=[TREES])[TREES]
        for name, rows in (("same means", centred), ("same means and covariance", whitened))
    }


def root(covariance: Tensor, power: float) -> Tensor:
    """A power of a symmetric positive matrix."""
    values, axes = torch.linalg.eigh(covariance)
    return (axes * values.clamp_min(1e-12) ** power) @ axes.T


if __name__ == "__main__":
    command()
