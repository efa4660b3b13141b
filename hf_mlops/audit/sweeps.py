"""Sweeps over forget specs, prompts and denoising steps: what samples from the hypernetwork many times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hf_mlops.audit.gates import Audit, audit_samples
from hf_mlops.audit.measure import measure
from hf_mlops.audit.reference import Reference
from hf_mlops.base.losses import LOSS_FLOOR
from hf_mlops.base.progress import Progress
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.serving.sampler import DEFAULT_STEPS

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
    the largest in training, and for several on D_f, from that of targets that forgot nothing to that of retrained ones; all in
    the range of the training.

    Losses are those on `Dataset.conditioning`, which prompts are given in. One row per sample; `asked` is `retain_loss` or
    `forget_loss`.
    """
    rows = []
    with Progress("prompt sweep", len(specs), "spec") as progress:
        for spec in specs:
            for name, losses in _prompts(hypernetwork, spec).items():
                for loss in losses.tolist():
                    samples = hypernetwork.sample(spec, n, seed, steps, **{name: loss})
                    measured = measure(hypernetwork.target, samples.weights, spec, dataset.conditioning)
                    retain, forget = measured.loss_on_sets()
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
    known, never = (max(loss, LOSS_FLOOR) for loss in (book.known_loss(spec), usual.forget_loss))
    return {
        "retain_loss": np.clip(np.geomspace(low, high, PROMPTS_SWEPT), *book.retain_range.tolist()),
        "forget_loss": np.clip(np.geomspace(known, never, PROMPTS_SWEPT), *book.forget_range.tolist()),
    }


def prompt_alignment(sweep: pd.DataFrame) -> pd.DataFrame:
    """How well samples have the losses that they were asked for, from the logarithms of a `prompt_sweep`.

    Returns:
        rows `retain` and `forget`, of the losses on D_r and on D_f, and `both`. Columns: `alignment`, R² of prompted for
        observed losses; `within spec`, the same of samples that were asked for this loss, about the mean of their spec; `slope`
        of observed on prompted there: 1 where prompts are obeyed, 0 where they are ignored. With `, ignored` behind it, what
        each of these would be if samples had the losses that they have by their spec's usual prompt, whatever was asked for.
        NaN where there is nothing to explain, as on two classes that every sample tells apart without an error.
    """
    losses = pd.concat([_log_losses(sweep, name).assign(loss=name) for name in ("retain", "forget")])
    figures: dict[str, dict[str, float]] = {}
    for name, of in (("retain", ["retain"]), ("forget", ["forget"]), ("both", ["retain", "forget"])):
        rows = losses[losses["loss"].isin(of)].dropna(subset=["prompted", "observed"])
        asked = rows[rows["asked"] == rows["loss"] + "_loss"]
        centred = asked - asked.groupby(["forget", "loss"])[["prompted", "observed", "ignored"]].transform("mean")
        figures[name] = {}
        for which, behind in (("observed", ""), ("ignored", ", ignored")):
            missed, here = _squares(rows["prompted"] - rows[which]), _squares(asked["prompted"] - asked[which])
            figures[name] |= {
                f"alignment{behind}": 1 - _ratio(missed, _squares(rows[which] - rows[which].mean())),
                f"within spec{behind}": 1 - _ratio(here, _squares(centred[which])),
                f"slope{behind}": _ratio((centred["prompted"] * centred[which]).sum(), _squares(centred["prompted"])),
            }
    return pd.DataFrame.from_dict(figures, orient="index")


def _log_losses(sweep: pd.DataFrame, name: str) -> pd.DataFrame:
    """Logarithms of one loss: prompted, observed, and what the same sample has by its spec's usual, lowest prompt."""
    prompted, observed = (np.log(sweep[f"{which}_{name}_loss"] + LOSS_FLOOR) for which in ("prompted", "observed"))
    found = sweep[["forget", "asked", "sample"]].assign(prompted=prompted, observed=observed)
    retain = sweep["prompted_retain_loss"]
    usual = found[(sweep["asked"] == "retain_loss") & (retain == retain.groupby(sweep["forget"]).transform("min"))]
    ignored = usual.drop_duplicates(["forget", "sample"]).set_index(["forget", "sample"])["observed"].rename("ignored")
    return found.join(ignored, on=["forget", "sample"])


def _squares(values: pd.Series) -> float:
    """The sum of squares."""
    return float((values**2).sum())


def _ratio(part: float, whole: float) -> float:
    """NaN of nothing."""
    return part / whole if whole > 0 else float("nan")


def step_sweep(
    hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, specs: Sequence[ForgetSpec], n: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Accuracy on D_f and D_r, mean over specs and samples, for each number of denoising steps in `STEPS_SWEPT`."""
    rows = []
    for steps in STEPS_SWEPT:
        figures = [one.figures() for one in audit_specs(hypernetwork, reference, dataset, specs, n, seed, steps).values()]
        rows.append({"steps": steps, **pd.DataFrame(figures).mean().to_dict()})
    return pd.DataFrame(rows)
