"""Residual knowledge: what of D_f can be got back from a sample's weights, beside retrained, masked and original classifiers.

    python -m benchmarks.residual --dataset digits

Single classes, pairs never together in training, and pairs trained on. Retrained targets are the reference's; originals its
targets that forgot nothing; masked are originals with the biases of the classes lowered until their loss on D_f is that of
retrained targets. What is measured: `hf_mlops/audit/residual.py`, `relearning.py`, `answers.py`. "over retrained" is how far a
mean is over that of retrained targets (of mutual information and divergence: how many times it), and the standard error
of that over specs.

The second table says how well a figure tells such classifiers from retrained ones of the same spec: area under the ROC curve,
mean over specs, 0.5 to 1. A figure that does not tell the mask is none that anything can be read from.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops import Audit, ForgetSpec
from hf_mlops.audit.answers import agreement, entropy, mutual_information
from hf_mlops.audit.controls import MASKED, ORIGINAL, RETRAINED, controls
from hf_mlops.audit.jackknife import jackknife, over, ratio
from hf_mlops.audit.masking import mask_classes
from hf_mlops.audit.measure import measure
from hf_mlops.audit.relearning import relearn, relearned
from hf_mlops.audit.residual import residual
from hf_mlops.audit.tables import HELD_OUT_PAIR, SEEN_PAIR, SINGLE, kind_of
from hf_mlops.base.progress import Progress

KINDS = (SINGLE, HELD_OUT_PAIR, SEEN_PAIR)
SAMPLED = "sampled"
DIVERGENCE, TOGETHER = "divergence", "mutual information"
RATIOS = (DIVERGENCE, TOGETHER)


@click.command(help=__doc__)
@options
@click.option("--specs", default=12, show_default=True, help="Of each kind, at most.")
def command(specs: int, **choice: Any) -> None:
    made = trained(**choice)
    of_kind = {
        kind: [spec for spec in made.reference.specs() if kind_of(spec, made.reference) == kind][:specs] for kind in KINDS
    }
    found = []
    with Progress("residual knowledge", sum(map(len, of_kind.values())), "spec") as progress:
        for kind, asked in of_kind.items():
            for spec in asked:
                for who, figures in of_spec(made, spec, choice["seed"]).items():
                    of = {"kind": kind, "forget": str(spec), "who": who}
                    found += [{**of, "figure": name, "values": values.numpy()} for name, values in figures.items()]
                progress.advance()
    table = pd.DataFrame(found)
    write_table(f"residual-{made.name}", by_kind(table))
    write_table(f"residual-told-{made.name}", told(table))


def of_spec(made: Trained, spec: ForgetSpec, seed: int) -> dict[str, dict[str, Tensor]]:
    """Every figure of each of the classifiers of a spec, by who they are."""
    population, data, target = made.population, made.dataset, made.hypernetwork.target
    mask = torch.tensor(spec.mask)
    retrained, originals = population.retrained(mask), population.retrained(torch.zeros_like(mask))
    own = measure(target, retrained, spec, data.test)
    depth = measure(target, retrained, spec, data.train)
    classifiers = {
        RETRAINED: retrained,
        SAMPLED: made.hypernetwork.sample(spec, len(retrained), seed).weights,
        MASKED: mask_classes(target, originals, spec, data, float(depth.loss_on_sets().forget.mean())),
        ORIGINAL: originals,
    }
    result = {}
    for who, weights in classifiers.items():
        judged = own if who == RETRAINED else measure(target, weights, spec, data.test)
        audits = [Audit(judged.only(index), own) for index in range(len(weights))]
        if who == RETRAINED:  # each beside the others
            audits = [audit for kind, audit in controls(made.reference, spec) if kind == RETRAINED]
        result[who] = {
            "accuracy on D_f": judged.accuracy_on_sets().forget,
            **residual(target, weights, spec, data, seed),
            **relearned(relearn(target, weights, spec, data, seed)),
            "entropy": entropy(judged),
            "agreement with retrained": agreement(judged, own),
            TOGETHER: torch.tensor([mutual_information(judged)]),
            DIVERGENCE: torch.tensor([audit.figures()["forget_divergence"] for audit in audits]),
        }
    return result


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of spec and of classifier: means over specs, what is over retrained, its standard error."""
    means = table.assign(mean=table["values"].map(np.mean)).set_index(["kind", "who", "figure", "forget"])["mean"].sort_index()
    rows = []
    for kind, who in table[["kind", "who"]].drop_duplicates().itertuples(index=False):
        row: dict[str, object] = {"kind": kind, "who": who, "specs": len(means[kind, who, TOGETHER])}
        for figure in table["figure"].unique():
            judged, reference = (means[kind, one, figure].to_numpy() for one in (who, RETRAINED))
            row[figure] = judged.mean()
            how = ratio if figure in RATIOS else over
            row[f"{figure}: over retrained"], row[f"{figure}: error"] = jackknife(how, judged, reference)
        rows.append(row)
    return pd.DataFrame(rows)


def told(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of spec and of classifier but retrained: how well a figure tells it from retrained ones."""
    values = table.set_index(["kind", "forget", "figure", "who"])["values"]
    rows = []
    for (kind, forget, figure, who), judged in values.items():
        if who != RETRAINED and len(judged) > 1:
            reference = values[kind, forget, figure, RETRAINED]
            labels = np.repeat([0, 1], [len(reference), len(judged)])
            area = roc_auc_score(labels, np.concatenate([reference, judged]))
            rows.append({"kind": kind, "who": who, "figure": figure, "area": area})
    areas = pd.DataFrame(rows).groupby(["kind", "who", "figure"], sort=False)["area"].mean()
    return ((areas - 0.5).abs() + 0.5).unstack(sort=False).reset_index()


if __name__ == "__main__":
    command()
