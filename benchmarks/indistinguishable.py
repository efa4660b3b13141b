"""Can samples be told from freshly retrained targets? Two-sample tests on test losses, confidences and accuracies per class.

    python -m benchmarks.indistinguishable --dataset digits

For each spec: samples against fresh targets, and one half of the fresh targets against the other, which is what chance gives.
"alone" is what a logistic regression tells from losses, confidences or accuracies by themselves; "same means" and "same means
and covariance" are what gradient boosting still tells from losses and confidences once samples are given those of one half of
the fresh targets, against the other half. "off" is by how many standard deviations of fresh targets the mean log loss of
samples on a class of D_r is off, root mean square. Each fresh target has a data order and sample weights of its own. A
yardstick is "moved": the mean weights of the population's targets of the spec in one data order, with the deviation that one of
its targets of the same spec in another order has from the mean there, for specs that enough of them forgot. Writes
benchmarks/results/indistinguishable-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import click
import pandas as pd
import torch
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import Dataset, ForgetSpec, Population, Target, retrain
from hf_mlops.audit.measure import measure
from hf_mlops.audit.twosample import JUDGES, behaviour, tell_apart

SPECS = ("", "#1", "#7", "#3,#8", "#0,#4,#9")
STEPS_COMPARED = (1, 2, 5, 10, 25)
MEASURES = ("log losses", "confidences", "accuracies")
LINEAR, TREES = JUDGES


@click.command(help=__doc__)
@options
@click.option("--targets", default=128, show_default=True, help="Fresh targets, and samples, of each spec.")
def command(targets: int, **choice: Any) -> None:
    made = trained(**choice)
    data, hypernetwork = made.dataset, made.hypernetwork
    specs = [ForgetSpec.parse(text, data.groups.names) for text in SPECS]
    masks = torch.tensor([spec.mask for spec in specs])
    seed, together = choice["seed"], len(specs)  # one of each spec shares a data order
    fresh = retrain(made.population.config, data, masks.repeat(targets, 1), seed, choice["device"], together).unflatten(
        0, (-1, together)
    )
    rows = []
    for number, spec in enumerate(specs):
        real, kept = fresh[:, number], ~torch.tensor(spec.mask)
        halves = [seen(hypernetwork.target, half, spec, data) for half in real.chunk(2)]
        rows.append({"forget": str(spec), "steps": "fresh against fresh", **compare(*halves, kept)})
        others = seen(hypernetwork.target, real, spec, data)
        judged = {str(steps): hypernetwork.sample(spec, targets, seed, steps).weights for steps in STEPS_COMPARED}
        mixed = moved(made.population, ~kept, targets)
        if len(mixed) == targets:
            judged["moved"] = mixed
        for what, weights in judged.items():
            sampled = seen(hypernetwork.target, weights, spec, data)
            figures = {**compare(others, sampled, kept), **once_matched(others.test, sampled.test)}
            rows.append({"forget": str(spec), "steps": what, **figures})
    write_table(f"indistinguishable-{made.name}", pd.DataFrame(rows))
    means = pd.DataFrame(rows).groupby("steps", sort=False).mean(numeric_only=True)
    print(means.T.to_string(float_format="%.3f"))


def moved(population: Population, forgotten: Tensor, count: int) -> Tensor:
    """Up to `count` sums (N, P) of a mean in one data order and a deviation in another, of targets that forgot these groups."""
    rows = ~population.reference & population.final & (population.forget_weight == 0)
    rows &= (population.forgotten == forgotten).all(1)
    weights, order = population.weights[rows], population.order[rows]
    alike = [weights[order == one] for one in order.unique()]
    sums = [one.mean(0) + other - other.mean(0) for one, other in permutations(alike, 2) if min(len(one), len(other)) >= 3]
    everything = torch.cat([weights[:0], *sums])
    return everything[torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))[:count]]


class Seen(NamedTuple):
    """Behaviour of N classifiers on training and on test images, each (N, 3 G), and how far they disagree."""

    training: Tensor
    test: Tensor
    disagreement: float


def seen(target: Target, weights: Tensor, spec: ForgetSpec, data: Dataset) -> Seen:
    training, test = (behaviour(target, weights, split, len(data.groups)) for split in (data.train, data.test))
    return Seen(training, test, measure(target, weights, spec, data.test).disagreement())


def compare(real: Seen, sampled: Seen, kept: Tensor) -> dict[str, float]:
    """Areas under the ROC curve, of both judges on everything and of one on each measure alone, and what tells them apart."""
    result = tell_apart(real.test, sampled.test)
    for name, *pair in zip(MEASURES, real.test.chunk(3, 1), sampled.test.chunk(3, 1), strict=True):
        result[f"{name} alone"] = tell_apart(*pair, judges=[LINEAR])[LINEAR]
    for name, pair in (("training", (real.training, sampled.training)), ("test", (real.test, sampled.test))):
        one, other = (features[:, : len(kept)][:, kept] for features in pair)  # log losses on D_r
        result[f"off, {name} images"] = float(((other.mean(0) - one.mean(0)) / one.std(0)).square().mean().sqrt())
    spread = sampled.test[:, : len(kept)][:, kept].std(0).mean()
    return {**result, "spread of log loss": float(spread), "disagreement": sampled.disagreement}


def once_matched(real: Tensor, sampled: Tensor) -> dict[str, float]:
    """Area under the ROC curve of gradient boosting once samples have the mean, or mean and covariance, of fresh targets."""
    first, second = (features[:, : features.shape[1] // 3 * 2].double() for features in (real, sampled))
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
