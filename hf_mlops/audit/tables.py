"""Evaluation of a hypernetwork: sweeps over forget specs, prompts and denoising steps, beside the retrain reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hf_mlops.audit.measure import Audit, Reference, audit_samples, measure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.losses import LOSS_FLOOR
from hf_mlops.compute.progress import Progress
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import DEFAULT_STEPS, Hypernetwork

NONE, SINGLE, SEEN_PAIR, HELD_OUT_PAIR, LARGER = KINDS = ("nothing", "single", "seen pair", "held-out pair", "larger set")
STEPS_SWEPT = (1, 2, 5, 10, 25, 50)
PROMPTS_SWEPT = 6  # losses asked for on D_r, and as many on D_f, for each spec


def kind_of(spec: ForgetSpec, reference: Reference) -> str:
    """How a spec relates to what the hypernetwork was trained on: a name in `KINDS`."""
    if len(spec.groups) == 2:
        return HELD_OUT_PAIR if reference.never_together(spec) else SEEN_PAIR
    return {0: NONE, 1: SINGLE}.get(len(spec.groups), LARGER)


def audit_specs(
    hypernetwork: Hypernetwork,
    reference: Reference,
    dataset: Dataset,
    specs: Sequence[ForgetSpec],
    n: int = 32,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
) -> dict[ForgetSpec, Audit]:
    """Audits of n samples for each spec."""
    audits = {}
    with Progress(f"audit, {steps} denoising steps", len(specs), "spec") as progress:
        for spec in specs:
            samples = hypernetwork.sample(spec, n, seed, steps)
            audits[spec] = audit_samples(hypernetwork.target, samples, dataset, reference)
            progress.advance()
    return audits


def spec_table(audits: dict[ForgetSpec, Audit], reference: Reference) -> pd.DataFrame:
    """One row per spec: accuracy and loss on D_f and D_r, mean, worst and spread over samples, and of the reference.

    `disagreement` is the share of test images in D_r that two samples, or two retrained targets, predict differently.
    """
    rows = []
    for spec, one in audits.items():
        row: dict[str, object] = {"forget": str(spec), "kind": kind_of(spec, reference), **one.figures()}
        for who, measured in (("", one.sampled), ("reference_", one.reference)):
            retain, forget = measured.on_sets(measured.accuracies, spec)
            row[f"{who}retain_accuracy_worst"] = retain.min().item()
            row[f"{who}retain_accuracy_spread"] = retain.std().item() if len(retain) > 1 else float("nan")
            row[f"{who}disagreement"] = measured.disagreement(spec)
            if spec.groups:
                row[f"{who}forget_accuracy_worst"] = forget.max().item()
        rows.append(row)
    return pd.DataFrame(rows)


def reference_summary(reference: Reference) -> pd.DataFrame:
    """One row per kind of spec: how many retrained targets there are, and their test accuracy."""
    rows = []
    for spec in reference.specs():
        measured = reference.closest(spec)
        retain, forget = measured.on_sets(measured.accuracies)
        rows += [
            {"kind": kind_of(spec, reference), "retain accuracy": r, "forget accuracy": f}
            for r, f in zip(retain.tolist(), forget.tolist(), strict=True)
        ]
    by_kind = pd.DataFrame(rows).groupby("kind", sort=False)
    kept, forgot = by_kind["retain accuracy"], by_kind["forget accuracy"]
    columns = {"targets": by_kind.size(), "retain accuracy": kept.mean(), "worst": kept.min(), "forget accuracy": forgot.mean()}
    return pd.DataFrame(columns).reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of spec, from `spec_table`: means over its specs, worsts over all its samples; gaps in points."""
    rows = []
    for kind in KINDS:
        part = table[table["kind"] == kind]
        if len(part) == 0:
            continue
        gap = part["reference_retain_accuracy"].mean() - part["retain_accuracy"].mean()
        worst_gap = part["reference_retain_accuracy_worst"].min() - part["retain_accuracy_worst"].min()
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
                "spread": part["retain_accuracy_spread"].mean(),
                "spread retrained": part["reference_retain_accuracy_spread"].mean(),
                "disagreement": part["disagreement"].mean(),
                "disagreement retrained": part["reference_disagreement"].mean(),
            }
        )
    return pd.DataFrame(rows)


def prompt_sweep(
    hypernetwork: Hypernetwork,
    dataset: Dataset,
    specs: Sequence[ForgetSpec],
    n: int = 8,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
) -> pd.DataFrame:
    """Asks for several losses on D_r, from that of retrained targets up to nine tenths of the largest in training, and for
    several on D_f, from four fifths to five fourths of that of retrained targets, in the range of the training.

    Losses are those on the validation split, which prompts are given in. One row per sample; `asked` is `retain_loss` or
    `forget_loss`.
    """
    rows = []
    with Progress("prompt sweep", len(specs), "spec") as progress:
        for spec in specs:
            for name, losses in _prompts(hypernetwork, spec).items():
                for loss in losses.tolist():
                    samples = hypernetwork.sample(spec, n, seed, steps, **{name: loss})
                    measured = measure(hypernetwork.target, samples.weights, spec, dataset.validation)
                    retain, forget = measured.on_sets(measured.losses)
                    for index in range(n):
                        rows.append(
                            {
                                "forget": str(spec),
                                "asked": name,
                                "sample": index,
                                "prompted_retain_loss": samples.prompt.retain_loss,
                                "observed_retain_loss": retain[index].item(),
                                "prompted_forget_loss": samples.prompt.forget_loss,
                                "observed_forget_loss": forget[index].item(),
                            }
                        )
            progress.advance()
    return pd.DataFrame(rows)


def _prompts(hypernetwork: Hypernetwork, spec: ForgetSpec) -> dict[str, np.ndarray]:
    """The losses that a `prompt_sweep` asks for."""
    book = hypernetwork.prompts
    usual = book.prompt(spec)
    highest = max(0.9 * book.retain_range[1].item(), usual.retain_loss)
    low, high = book.forget_range.tolist()
    return {
        "retain_loss": np.geomspace(usual.retain_loss, highest, PROMPTS_SWEPT),
        "forget_loss": np.clip(np.geomspace(0.8, 1.25, PROMPTS_SWEPT) * usual.forget_loss, low, high),
    }


def prompt_alignment(sweep: pd.DataFrame) -> dict[str, float]:
    """R² between the logarithms of prompted and observed losses of a `prompt_sweep`: on D_r, on D_f, and over both."""
    prompted, observed = {}, {}
    for name in ("retain", "forget"):
        prompted[name] = np.log(sweep[f"prompted_{name}_loss"].dropna() + LOSS_FLOOR)
        observed[name] = np.log(sweep[f"observed_{name}_loss"].dropna() + LOSS_FLOOR)
    prompted["both"], observed["both"] = pd.concat(prompted.values()), pd.concat(observed.values())
    return {
        name: float(1 - ((prompted[name] - observed[name]) ** 2).sum() / ((observed[name] - observed[name].mean()) ** 2).sum())
        for name in prompted
    }


def step_sweep(
    hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, specs: Sequence[ForgetSpec], n: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Accuracy on D_f and D_r, mean over specs and samples, for each number of denoising steps in `STEPS_SWEPT`."""
    rows = []
    for steps in STEPS_SWEPT:
        figures = [one.figures() for one in audit_specs(hypernetwork, reference, dataset, specs, n, seed, steps).values()]
        rows.append({"steps": steps, **pd.DataFrame(figures).mean().to_dict()})
    return pd.DataFrame(rows)


def accuracy_per_group(audits: dict[ForgetSpec, Audit]) -> tuple[Tensor, Tensor]:
    """Mean accuracy of samples and of the reference on every group: two (specs, G) tensors."""
    sampled = torch.stack([one.sampled.accuracies.mean(0) for one in audits.values()])
    return sampled, torch.stack([one.reference.accuracies.mean(0) for one in audits.values()])
