"""Tables of audits, beside the retrain reference."""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.audit.gates import Audit
from hf_mlops.audit.reference import Reference
from hf_mlops.base.spec import ForgetSpec

NONE, SINGLE, SEEN_PAIR, HELD_OUT_PAIR, LARGER = KINDS = ("nothing", "single", "seen pair", "held-out pair", "larger set")


def kind_of(spec: ForgetSpec, reference: Reference) -> str:
    """How a spec relates to what the hypernetwork was trained on: a name in `KINDS`."""
    if len(spec.groups) == 2:
        return HELD_OUT_PAIR if reference.never_together(spec) else SEEN_PAIR
    return {0: NONE, 1: SINGLE}.get(len(spec.groups), LARGER)


def spec_table(audits: dict[ForgetSpec, Audit], reference: Reference) -> pd.DataFrame:
    """One row per spec: accuracy and loss on D_f and D_r, mean, worst and spread over samples, and of the reference.

    `disagreement` is the share of test images in D_r that two samples, or two retrained targets, predict differently.
    """
    rows = []
    for spec, one in audits.items():
        row: dict[str, object] = {"forget": str(spec), "kind": kind_of(spec, reference), **one.figures()}
        for who, measured in (("", one.sampled), ("reference_", one.reference)):
            retain, forget = measured.accuracy_on_sets(spec)
            row[f"{who}retain_accuracy_worst"] = retain.min().item()
            row[f"{who}retain_accuracy_spread"] = retain.std().item() if len(retain) > 1 else float("nan")
            row[f"{who}disagreement"] = measured.disagreement(spec)
            if spec.groups:
                row[f"{who}forget_accuracy_worst"] = forget.max().item()
        rows.append(row)
    return pd.DataFrame(rows)


def reference_summary(reference: Reference) -> pd.DataFrame:
    """One row per kind of spec that can be judged: how many retrained targets there are, and their accuracy on D_r and D_f."""
    rows = []
    for spec in reference.judged():
        measured = reference.beside(spec)
        for retain, forget in torch.stack(measured.accuracy_on_sets(), 1).tolist():
            rows.append({"kind": kind_of(spec, reference), "retain accuracy": retain, "forget accuracy": forget})
    by_kind = pd.DataFrame(rows).groupby("kind", sort=False)
    kept, forgot = by_kind["retain accuracy"], by_kind["forget accuracy"]
    columns = {"targets": by_kind.size(), "retain accuracy": kept.mean(), "worst": kept.min(), "forget accuracy": forgot.mean()}
    return pd.DataFrame(columns).reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of spec, from `spec_table`: means over its specs, worsts over all its samples; gaps in points.

    `worst gap`: how far the worst sample of a spec is at most under the worst target retrained for it; `worst under mean`:
    under the mean of those targets.
    """
    rows = []
    for kind in KINDS:
        part = table[table["kind"] == kind]
        if part.empty:
            continue
        gap = part["reference_retain_accuracy"].mean() - part["retain_accuracy"].mean()
        worst_gap = (part["reference_retain_accuracy_worst"] - part["retain_accuracy_worst"]).max()
        under_mean = (part["reference_retain_accuracy"] - part["retain_accuracy_worst"]).max()
        rows.append(
            {
                "kind": kind,
                "specs": len(part),
                "forget accuracy": part["forget_accuracy"].mean(),
                "worst": part["forget_accuracy_worst"].max(),
                "retain accuracy": part["retain_accuracy"].mean(),
                "retrained": part["reference_retain_accuracy"].mean(),
                "gap (points)": 100 * gap,
                "worst sample": part["retain_accuracy_worst"].min(),
                "worst retrained": part["reference_retain_accuracy_worst"].min(),
                "worst gap (points)": 100 * worst_gap,
                "worst under mean (points)": 100 * under_mean,
                "spread": part["retain_accuracy_spread"].mean(),
                "spread retrained": part["reference_retain_accuracy_spread"].mean(),
                "disagreement": part["disagreement"].mean(),
                "disagreement retrained": part["reference_disagreement"].mean(),
            }
        )
    return pd.DataFrame(rows)


def accuracy_per_group(audits: dict[ForgetSpec, Audit]) -> tuple[Float[Tensor, "specs groups"], Float[Tensor, "specs groups"]]:
    """Mean accuracy on every group after each spec: of the samples, and of the reference."""
    sampled = torch.stack([one.sampled.accuracies.mean(0) for one in audits.values()])
    return sampled, torch.stack([one.reference.accuracies.mean(0) for one in audits.values()])
