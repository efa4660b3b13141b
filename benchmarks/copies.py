"""Are samples copies of training targets? The mistakes that they share with the training target most like them.

    python -m benchmarks.copies --dataset digits

After Zeng et al., arXiv 2506.07998: of each classifier the highest likeness of its mistakes on the test images of D_r (images
that both get wrong, over images that either does) to those of any training target at the end of its run, among targets of the
same spec and among all. Few mistakes are soon the same; so also how far its answers and its weights are from the nearest.
"over retrained" is how many times that of retrained targets, which the hypernetwork never saw, with its standard error over
specs: a likeness above 1, or a distance below, is more like the training targets than retraining is.

Beside samples stand what must come out as copies, training targets with a little noise; training targets beside the others,
which unlike retrained ones share a data order with some; and what is to be had without a hypernetwork: training targets with as
much noise as leaves them, over all specs of a kind, as accurate as samples, averages of 16, and draws from a normal
distribution fitted to each weight of those of the spec. There are none of these of pairs never together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops import ForgetSpec
from hf_mlops.audit.copies import apart, averages, distance, highest, likeness, loudest, noisy, normal, wrong
from hf_mlops.audit.jackknife import jackknife, ratio
from hf_mlops.audit.measure import Measured, measure
from hf_mlops.audit.tables import HELD_OUT_PAIR, SEEN_PAIR, SINGLE, kind_of
from hf_mlops.base.noise import torch_seed_of
from hf_mlops.base.progress import Progress
from hf_mlops.population.outputs import Outputs

RETRAINED, TRAINED, LIKE = "retrained", "trained on", "copied, as accurate as samples"
LITTLE = 0.02  # noise of the copies, in standard deviations of each weight over the training targets of the spec
LEVELS = tuple(round(0.05 * step, 2) for step in range(41))  # among which the noise of the same accuracy is found
AVERAGED = 16
FIGURES = ("likeness, same spec", "likeness, all", "answers, same spec", "answers, all", "weights, same spec", "weights, all")


@dataclass(frozen=True)
class Trainees:
    """Training targets at the end of their run.

    Args:
        weights: (rows, P).
        forgotten: (rows, G) what they forgot.
        whole: (rows,) whether they left all of it out.
        outputs: their test answers.
    """

    weights: Tensor
    forgotten: Tensor
    whole: Tensor
    outputs: Outputs

    def own(self, spec: ForgetSpec) -> Tensor:
        """(rows,) which left out the very spec."""
        return self.whole & (self.forgotten == torch.tensor(spec.mask)).all(1)


@click.command(help=__doc__)
@options
@click.option("--specs", default=12, show_default=True, help="Of each kind, at most; of pairs trained on, with 16 targets.")
def command(specs: int, **choice: Any) -> None:
    made, seed = trained(**choice), choice["seed"]
    population = made.population
    ends = ~population.reference & population.final
    outputs = Outputs.of_targets(population.target, population.weights[ends], made.dataset.test, len(population.groups))
    trainees = Trainees(population.weights[ends], population.forgotten[ends], population.forget_weight[ends] == 0, outputs)
    kinds: dict[str, list[ForgetSpec]] = {SINGLE: [], HELD_OUT_PAIR: [], SEEN_PAIR: []}
    for spec in made.reference.specs():
        kind, enough = kind_of(spec, made.reference), int(trainees.own(spec).sum()) >= AVERAGED
        if kind in kinds and len(kinds[kind]) < specs and (enough or kind == HELD_OUT_PAIR):
            kinds[kind].append(spec)
    rows = []
    with Progress("copies", sum(map(len, kinds.values())), "spec") as progress:
        for kind, chosen in kinds.items():
            level = noise_of_samples(made, chosen, trainees, seed) if chosen and kind != HELD_OUT_PAIR else 0.0
            for spec in chosen:
                for who, weights in classifiers(made, spec, trainees.weights[trainees.own(spec)], level, seed).items():
                    noise = {LIKE: level}.get(who, float("nan"))
                    figures = compare(made, spec, weights, trainees, themselves=who == TRAINED)
                    rows.append({"kind": kind, "who": who, "forget": str(spec), "noise": noise, **figures})
                progress.advance()
    write_table(f"copies-{made.name}", by_kind(pd.DataFrame(rows)))


def classifiers(made: Trained, spec: ForgetSpec, same: Tensor, level: float, seed: int) -> dict[str, Tensor]:
    """Weights by who they are, as many of each as targets were retrained for the spec.

    Args:
        same: (rows, P) training targets of the very spec.
        level: of the noise of copies as accurate as samples.
    """
    fresh = made.population.retrained(torch.tensor(spec.mask))
    count, chance = len(fresh), torch.Generator().manual_seed(torch_seed_of("copies", seed, str(spec)))
    result = {
        RETRAINED: fresh,
        "sampled": made.hypernetwork.sample(spec, count, seed).weights,
    }
    if len(same) < AVERAGED:
        return result
    copied, scale = same[torch.randperm(len(same), generator=chance)[:count]], same.std(0)
    return {
        **result,
        TRAINED: same,
        "copied, a little noise": noisy(copied, scale, LITTLE, chance),
        LIKE: noisy(copied, scale, level, chance),
        f"average of {AVERAGED}": averages(same, count, AVERAGED, chance),
        "normal": normal(same, count, chance),
    }


def noise_of_samples(made: Trained, specs: list[ForgetSpec], trainees: Trainees, seed: int) -> float:
    """The most noise that leaves copies as accurate as samples are, mean over specs; 0: no noise does."""
    target, test, rows = made.hypernetwork.target, made.dataset.test, []
    for spec in specs:
        same = trainees.weights[trainees.own(spec)]
        chance = torch.Generator().manual_seed(torch_seed_of("noise of copies", seed, str(spec)))
        copies = [noisy(same, same.std(0), level, chance) for level in LEVELS]
        sampled = made.hypernetwork.sample(spec, made.population.config.reference_runs, seed).weights
        rows.append([accuracy(measure(target, weights, spec, test)) for weights in (sampled, *copies)])
    wanted, *found = np.mean(rows, 0).tolist()
    return loudest(LEVELS, found, wanted)


def compare(made: Trained, spec: ForgetSpec, weights: Tensor, trainees: Trainees, themselves: bool) -> dict[str, float]:
    """Means over classifiers of a spec; where they are the training targets themselves, each is held beside the others."""
    judged, training = measure(made.hypernetwork.target, weights, spec, made.dataset.test), Measured(spec, trainees.outputs)
    mistakes, own = wrong(judged), trainees.own(spec)
    far = distance(weights, trainees.weights)
    itself, figures = (
        (far == 0) & themselves,
        {"accuracy on D_r": accuracy(judged), "mistakes": mistakes.sum(1).float().mean().item()},
    )
    for name, values in (
        ("likeness", likeness(mistakes, wrong(training))),
        ("answers", -apart(judged, training)),
        ("weights", -far),
    ):
        figures[f"{name}, same spec"] = highest(values[:, own], itself[:, own]).nanmean().abs().item()
        figures[f"{name}, all"] = highest(values, itself).nanmean().abs().item()
    return figures


def accuracy(measured: Measured) -> float:
    """On D_r, mean over classifiers."""
    return measured.accuracy_on_sets().retain.mean().item()


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of spec and of classifier: means over specs, and how many times retrained ones'."""
    rows = []
    for (kind, who), part in table.groupby(["kind", "who"], sort=False):
        reference = table[(table["kind"] == kind) & (table["who"] == RETRAINED)].set_index("forget").loc[part["forget"]]
        row = {"kind": kind, "who": who, "specs": len(part), "noise": part["noise"].mean()}
        row |= {name: part[name].mean() for name in ("accuracy on D_r", "mistakes")}
        for name in FIGURES:
            row[name] = part[name].mean()
            row[f"{name}: over retrained"], row[f"{name}: error"] = jackknife(
                ratio, part[name].to_numpy(), reference[name].to_numpy()
            )
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    command()
