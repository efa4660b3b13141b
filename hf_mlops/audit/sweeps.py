"""Sweeps over forget specs, prompts and denoising steps: what samples from the hypernetwork many times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hf_mlops.audit.gates import Audit, audit_samples
from hf_mlops.audit.measure import measure
from hf_mlops.audit.reference import Reference
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.losses import LOSS_FLOOR
from hf_mlops.compute.progress import Progress
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import DEFAULT_STEPS, Hypernetwork

STEPS_SWEPT = (1, 2, 5, 10, 25, 50)
PROMPTS_SWEPT = 6  # losses asked for on D_r, and as many on D_f, for each spec


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


def prompt_sweep(
    hypernetwork: Hypernetwork,
    dataset: Dataset,
    specs: Sequence[ForgetSpec],
    n: int = 8,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
) -> pd.DataFrame:
    """Asks for several losses on D_r, from that of retrained targets (from `LOSS_FLOOR` if it is less) up to nine tenths of
    the largest in training, and for several on D_f, from four fifths to five fourths of that of retrained targets; all in the
    range of the training.

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
    low, high = max(usual.retain_loss, LOSS_FLOOR), max(highest, LOSS_FLOOR)  # of two classes the usual loss may be 0
    return {
        "retain_loss": np.clip(np.geomspace(low, high, PROMPTS_SWEPT), *book.retain_range.tolist()),
        "forget_loss": np.clip(np.geomspace(0.8, 1.25, PROMPTS_SWEPT) * usual.forget_loss, *book.forget_range.tolist()),
    }


def prompt_alignment(sweep: pd.DataFrame) -> dict[str, float]:
    """R² between the logarithms of prompted and observed losses of a `prompt_sweep`: on D_r, on D_f, and over both.

    NaN where all that was observed is one loss, as on two classes that every sample tells apart without an error.
    """
    prompted, observed = {}, {}
    for name in ("retain", "forget"):
        prompted[name] = np.log(sweep[f"prompted_{name}_loss"].dropna() + LOSS_FLOOR)
        observed[name] = np.log(sweep[f"observed_{name}_loss"].dropna() + LOSS_FLOOR)
    prompted["both"], observed["both"] = pd.concat(prompted.values()), pd.concat(observed.values())
    missed = {name: float(((prompted[name] - observed[name]) ** 2).sum()) for name in prompted}
    varied = {name: float(((observed[name] - observed[name].mean()) ** 2).sum()) for name in prompted}
    return {name: 1 - missed[name] / varied[name] if varied[name] > 0 else float("nan") for name in prompted}


def step_sweep(
    hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, specs: Sequence[ForgetSpec], n: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Accuracy on D_f and D_r, mean over specs and samples, for each number of denoising steps in `STEPS_SWEPT`."""
    rows = []
    for steps in STEPS_SWEPT:
        figures = [one.figures() for one in audit_specs(hypernetwork, reference, dataset, specs, n, seed, steps).values()]
        rows.append({"steps": steps, **pd.DataFrame(figures).mean().to_dict()})
    return pd.DataFrame(rows)
