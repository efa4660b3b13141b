"""What do standard membership attacks find on samples? Each beside the original, a mask, retrained targets and overfitted ones.

    python -m benchmarks.membership --dataset digits
    python -m benchmarks.membership --dataset digits --groups shard:20

Forgets each group, by default a class (`--pairs`: each pair that no training run forgot together). On every classifier: an
attack by entropy and five by support vectors, which learn from D_r and are asked of D_f, training images against test images of
the same groups; and one by the loss on D_r, which must not find retained members more easily than before. Then a judge of
groups: shadow targets that kept the group against such as were retrained without it, told by their answers to the images that
audits look at, of classes by those among the other classes. Its AUC is that of one kind's classifiers against held-out
retrained targets; of these, each is held against the others, which gives 0.5. "Way" is where their mean score lies between
these, 0, and held-out originals, 1, mean and extremes over specs; samples that forget nothing show what of it is style. All
targets are fresh: the hypernetwork saw none. "Overfitted" ones are trained on `--few` images of each group, for four times as
long, without sample weights and decay. Writes benchmarks/results/membership-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks import write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops import Dataset, ForgetSpec, Target, retrain
from hf_mlops.audit.attack_table import OVERFITTED, SAMPLED, attack_table
from hf_mlops.audit.controls import MASKED, ORIGINAL, RETRAINED
from hf_mlops.audit.detection import AUC, detection
from hf_mlops.audit.exposure import Exposed, exposed
from hf_mlops.audit.group_membership import GroupJudge, group_evidence
from hf_mlops.audit.measure import covered_classes
from hf_mlops.audit.membership import ATTACKS, CALLED, RETAINED, retained_members
from hf_mlops.audit.tables import HELD_OUT_PAIR, kind_of
from hf_mlops.base.progress import Progress
from hf_mlops.data.dataset import Split
from hf_mlops.population.outputs import Outputs

GROUPS = "groups"  # the attack of the judge of groups
NOTHING = "sampled, nothing forgotten"  # as far from the original as the sample is from retrained ones, if it is style alone
SHOWN = ["attack", "kind", AUC, "low", "high", "TPR at 1 %", CALLED, f"{AUC} less retrained", f"{AUC} less, low"]
SHOWN += [f"{AUC} less, high", "worst spec", "worst by chance", "informative", "finds overfitting", "a mask passes"]
Records = Iterator[dict[str, object]]


@click.command(help=__doc__)
@options
@click.option("--models", default=8, show_default=True, help="Classifiers of each kind and spec that images are asked of.")
@click.option("--shadows", default=16, show_default=True, help="Targets of either side that a judge of groups learns from.")
@click.option("--judged", default=32, show_default=True, help="Classifiers of each kind and spec that it judges.")
@click.option("--few", default=15, show_default=True, help="Images of each group that overfitted targets have.")
@click.option("--pairs", is_flag=True, help="Pairs of groups that no training run forgot together.")
def command(models: int, shadows: int, judged: int, few: int, pairs: bool, **choice: Any) -> None:
    made = trained(**choice)
    names = made.dataset.groups.names
    alone = [ForgetSpec.of([group], names) for group in range(len(names))]
    specs = [spec for spec in alone if made.reference.leaves_images(spec)]  # not what is clean, beside poison
    if pairs:
        specs = [spec for spec in made.reference.specs() if kind_of(spec, made.reference) == HELD_OUT_PAIR]
    masks = torch.tensor([ForgetSpec.of([], names).mask, *(spec.mask for spec in specs)])
    config, seed, device = made.population.config, choice["seed"], choice["device"]
    fresh = retrain(config, made.dataset, masks.repeat(shadows + judged, 1), seed, device, len(masks))
    fresh = fresh.unflatten(0, (-1, len(masks)))
    cut = only_few(made.dataset, few)
    longer = replace(config, weight_decay=0.0, weight_noise=0.0, train_steps=4 * config.train_steps)
    overfitted = retrain(longer, cut, masks[:1].repeat(models, 1), seed, device, 1)
    own = Target.for_dataset(config.architecture, cut, config.scope, config.seed)  # normalised as those images are
    rows: list[dict[str, object]] = []
    nothing = made.hypernetwork.sample("", judged, seed).weights
    with Progress("attacks", len(specs), "spec") as progress:
        for number, spec in enumerate(specs, 1):
            samples = made.hypernetwork.sample(spec, judged, seed).weights
            rows += on_images(made, spec, fresh[:models, 0], fresh[:models, number], samples[:models])
            rows += records(spec, OVERFITTED, exposed(own, overfitted, cut.identity, cut, spec))
            (kept, original), (left, retrained) = (fresh[:, which].split([shadows, judged]) for which in (0, number))
            held_out = {ORIGINAL: original, RETRAINED: retrained, SAMPLED: samples, NOTHING: nothing}
            rows += on_groups(made, spec, held_out, (kept, left))
            progress.advance()
    found = pd.DataFrame(rows)
    table = attack_table(found[found["kind"] != NOTHING], seed)
    write_table(f"membership-{made.name}{'-pairs' * pairs}", table)
    print(table[SHOWN].to_string(index=False, float_format="%.3f"))
    ways = found.dropna(subset="way").groupby(["attack", "kind"], sort=False)[["way", "called"]]
    print(ways.agg(["mean", "min", "max"]).astype(float).to_string(float_format="%.3f"))


def only_few(data: Dataset, each: int) -> Dataset:
    """Trains on the first images of each group alone; its other training images are test images too."""
    rank = one_hot(data.train.groups).cumsum(0).gather(1, data.train.groups[:, None])[:, 0]

    def joined(*parts: tuple[Split, Tensor]) -> Split:
        return Split(*(torch.cat([getattr(one, name)[rows] for one, rows in parts]) for name in ("images", "labels", "groups")))

    everything = torch.ones(len(data.test), dtype=torch.bool)
    return replace(
        data, train=joined((data.train, rank <= each)), test=joined((data.test, everything), (data.train, rank > each))
    )


def on_images(made: Trained, spec: ForgetSpec, original: Tensor, retrained: Tensor, samples: Tensor) -> Records:
    """Attacks on images, of all kinds."""
    population, data = made.population, made.dataset
    masked = {MASKED: original} if data.groups.covered(spec.groups) else {}
    for kind, weights in {ORIGINAL: original, **masked, SAMPLED: samples, RETRAINED: retrained}.items():
        seen = exposed(population.target, weights, population.made_from, data, spec, masked=kind == MASKED)
        yield from records(spec, kind, seen)


def records(spec: ForgetSpec, kind: str, seen: list[Exposed]) -> Records:
    """Attacks on images, on each classifier of one kind."""
    for model, one in enumerate(seen):
        about = {"forget": str(spec), "kind": kind, "model": model}
        for name, attack in ATTACKS.items():
            yield {"attack": name, **about, **attack.on(one, model)}
        yield {"attack": RETAINED, **about, **retained_members(one), CALLED: float("nan")}


def on_groups(made: Trained, spec: ForgetSpec, held_out: dict[str, Tensor], shadows: tuple[Tensor, Tensor]) -> Records:
    """The judge of groups, by all evidence and by that on D_f or on D_r alone.

    Args:
        held_out: weights of original, retrained and sampled classifiers, and of samples that forget nothing.
        shadows: weights of those that it learns from, which kept the group and which were retrained without it.
    """
    groups = made.dataset.groups

    def answers(weights: Tensor) -> Outputs:
        return Outputs.of_targets(made.population.target, weights, made.dataset.audited, len(groups))

    kept, left = (group_evidence(answers(weights), spec) for weights in shadows)
    given = {kind: answers(weights) for kind, weights in held_out.items()}
    if groups.covered(spec.groups):
        given[MASKED] = given[ORIGINAL].without(torch.from_numpy(covered_classes(groups, spec)))
    seen = {kind: group_evidence(outputs, spec) for kind, outputs in given.items()}
    away = torch.tensor(spec.mask)
    for name, which in ((GROUPS, away | ~away), (f"{GROUPS}, on D_f", away), (f"{GROUPS}, on D_r", ~away)):
        judge = GroupJudge(kept[:, which], left[:, which])
        some = {kind: one[:, which] for kind, one in seen.items()}
        retrained = judge.scores(some[RETRAINED])
        for kind, one in some.items():
            way = judge.way(one, some[ORIGINAL], some[RETRAINED])
            for model, (score, belief) in enumerate(zip(judge.scores(one), judge.beliefs(one), strict=True)):
                others = np.delete(retrained, model) if kind == RETRAINED else retrained
                found = detection(score[None], others)  # AUC of one score: the share of the others that it is above
                about = {"attack": name, "forget": str(spec), "kind": kind, "model": model}
                yield {**about, **found, CALLED: belief, "way": way, "called": float(belief > 0.5)}


if __name__ == "__main__":
    command()
