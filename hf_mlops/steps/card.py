"""The model card of a hypernetwork: what it is, what it was trained on, what it has shown, what it is not for."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd

from hf_mlops.audit.gates import Gates
from hf_mlops.audit.reference import Reference
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import Hypernetwork

LONGEST_LIST = 400  # characters of group names: a store takes 5,000 in all


def model_card(hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, table: pd.DataFrame, gates: Gates) -> str:
    """The description of a hypernetwork's version, in Markdown.

    Args:
        reference: of the population that it learnt from.
        dataset: that both were trained on.
        table: `spec_table` of the single groups that it was judged by.
        gates: that it has passed.
    """
    config, population, names = hypernetwork.config, reference.config, hypernetwork.groups.names
    pairs = len(reference.held_out)
    return f"""{config.variant} hypernetwork over the weights of `{hypernetwork.target.architecture}` on {dataset.name}: \
`predict` samples classifiers that behave as if retrained without the groups in the column `forget`.

**Trained on** {len(dataset.train.labels)} images of {len(dataset.class_names)} classes, and the weights of \
{population["runs"]} classifiers, {population["train_steps"]} steps each. Pairs of groups that none of them forgot together: \
{pairs}.

**Can be forgotten**: any union of {len(names)} groups: {_list(names)}.

**Gates passed** on every single group, by the mean of its samples, beside classifiers retrained without it:

{_figures(table, gates)}

**Recipe**: `{json.dumps(asdict(config))}`

**Limits**
- It still knows what its samples have forgotten: `sample("")` recognises it, until this version and its population are purged.
- What it has shown, it has shown on single groups. Each classifier is audited by itself before it is registered.
- Pairs that no classifier forgot together, and sets that hold one, are forgotten less deeply than others.
- Samples are of this network and these data. To learn of other data takes a new population."""


def _list(names: tuple[str, ...]) -> str:
    """As many names as fit."""
    shown = ", ".join(names)
    return shown if len(shown) <= LONGEST_LIST else f"{shown[:LONGEST_LIST].rpartition(', ')[0] or names[0][:LONGEST_LIST]}, …"


def _figures(table: pd.DataFrame, gates: Gates) -> str:
    """What gates look at: mean and worst over the groups, beside retrained classifiers."""
    rows = [
        ("accuracy on D_f", "forget_accuracy", "idxmax", f"at most {gates.max_forget_gap} over retrained ones, and chance"),
        ("accuracy on D_r", "retain_accuracy", "idxmin", f"at most {gates.max_retain_gap} under retrained ones"),
        (
            "answers on D_f, on the way from retrained to unforgotten",
            "forget_distance",
            "idxmax",
            f"at most {gates.max_forget_distance}",
        ),
    ]
    lines = ["| figure | mean | worst | of | retrained, mean | gate |", "|---|---|---|---|---|---|"]
    for what, column, worst, gate in rows:
        figures = table[column].dropna() if column in table else pd.Series(dtype=float)
        if figures.empty:
            continue
        at, retrained = getattr(figures, worst)(), table.get(f"reference_{column}")
        beside = "0" if retrained is None else f"{retrained.mean():.4f}"
        lines.append(f"| {what} | {figures.mean():.4f} | {figures[at]:.4f} | {table['forget'][at]} | {beside} | {gate} |")
    return "\n".join(lines)
