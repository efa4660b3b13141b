"""How well is forgotten what is not a class: customers, sources, shards of classes, and any unions of them?

    python -m benchmarks.groups --dataset digits --groups shard:20
    python -m benchmarks.groups --dataset digits --groups shard:20 --variant dihyfo-2
    python -m benchmarks.groups --dataset digits --groups dirichlet:10:0.3
    python -m benchmarks.groups --dataset digits --groups class-shard:10        # 100 groups

For each spec of the reference, samples beside retrained targets and targets that forgot nothing, "production". *Closed* is how
far the mean loss on training images of D_f has gone from production's, 0, to that of retrained targets, 1; where a union covers
a class there is none, and accuracy on D_f stands for it. *In the weight space* are the retrained targets themselves, cut to the
coordinates that diffusion runs in: what these leave out no sample can have learnt. *Membership* is the area under the ROC curve
of the losses of D_f against those on test images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops import Audit, ForgetSpec, Gates, Reference, Samples, audit_samples
from hf_mlops.audit.measure import Measured
from hf_mlops.audit.tables import kind_of
from hf_mlops.base.progress import Progress
from hf_mlops.serving.signal import VARIANTS

WHOLE, NEARLY = "a whole class", "all but one of a class"
IN_SPACE = "closed, retrained in the weight space"


@click.command(help=__doc__)
@options
@click.option("--samples", default=8, show_default=True, help="Of each spec.")
@click.option("--runs", type=int, help="Of the population; by default the recipe's.")
@click.option("--hypernet-steps", type=int, help="By default the recipe's.")
@click.option("--variant", type=click.Choice(VARIANTS), help="By default the recipe's.")
def command(samples: int, **choice: Any) -> None:
    made = trained(**choice)
    rows = []
    with Progress("groups", len(made.reference.specs()), "spec") as progress:
        for spec in made.reference.specs():
            drawn = made.hypernetwork.sample(spec, samples, choice["seed"])
            audit = audit_samples(made.hypernetwork.target, drawn, made.dataset, made.reference)
            rows.append(
                {"forget": str(spec), "kind": kind(spec, made.reference), **figures(audit), IN_SPACE: in_space(made, drawn)}
            )
            progress.advance()
    table = pd.DataFrame(rows)
    by_kind = table.drop(columns="forget").groupby("kind", sort=False)
    summary = by_kind.mean().assign(specs=by_kind.size())
    for name in ("closed", "gap (points)", "accuracy on D_f"):
        summary[f"{name}, least"], summary[f"{name}, most"] = by_kind[name].min(), by_kind[name].max()
    write_table(f"groups-{made.name}", summary.reset_index())
    rows_of_reference = made.population.reference & made.population.final
    print(f"retrained targets of the reference: {int(rows_of_reference.sum())}; seconds: {made.seconds}")


def kind(spec: ForgetSpec, reference: Reference) -> str:
    """A name in `tables.KINDS`, or what part of a class a union is."""
    chosen = set(spec.groups)
    shared = [set(own) for own in reference.groups.holders if 2 < len(own) < len(reference.groups)]
    if chosen in shared:
        return WHOLE
    return NEARLY if any(chosen < own and len(own) == len(chosen) + 1 for own in shared) else kind_of(spec, reference)


def figures(audit: Audit) -> dict[str, float]:
    """Of the samples of a spec, in means over them."""
    found, spec = audit.figures(), audit.sampled.spec
    result = {
        "gap (points)": 100 * (found["reference_retain_accuracy"] - found["retain_accuracy"]),
        "accuracy on D_f": found.get("forget_accuracy", np.nan),
        "retrained": found.get("reference_forget_accuracy", np.nan),
        "closed": found.get("closed", np.nan),
        "divergence on D_f over the floor": found.get("forget_divergence", np.nan)
        / found.get("reference_forget_divergence", np.nan),
        "distance": found.get("forget_distance", np.nan),
    }
    if spec.groups:
        everyone = {"production": audit.unforgotten, "sampled": audit.sampled, "retrained": audit.reference}
        for who, measured in everyone.items():
            result[f"membership, {who}"] = membership(measured, spec) if measured is not None else np.nan
    return {**result, "pass the gates": audit.passed(Gates())}


def in_space(made: Trained, drawn: Samples) -> float:
    """How far retrained targets have gone, once encoded and decoded, by the spec of samples."""
    space = made.hypernetwork.space
    retrained = made.population.retrained(torch.tensor(drawn.spec.mask)).to(made.hypernetwork.device)
    cut = replace(drawn, weights=space.decode(space.encode(retrained)).cpu())
    return audit_samples(made.population.target, cut, made.dataset, made.reference).figures().get("closed", np.nan)


def membership(measured: Measured, spec: ForgetSpec) -> float:
    """Area under the ROC curve of the loss of training images in D_f against test images, mean over classifiers.

    NaN where D_f is measured on test images.
    """
    apart = measured.outputs.apart
    forget = measured.sets(spec)[1]
    if apart is None or not (apart & forget).any():
        return np.nan
    shown, members = (~apart | forget).nonzero()[:, 0], forget
    losses = measured.outputs.image_losses.clamp_max(1e3)[:, shown]
    return float(np.mean([roc_auc_score(members[shown].numpy(), -one.numpy()) for one in losses]))


if __name__ == "__main__":
    command()
