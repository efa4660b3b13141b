"""Step `evaluate`: measures the champion over many forget specs, prompts and step counts, with pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run

from hf_mlops.audit.controls import control_table
from hf_mlops.audit.gates import Audit, Gates
from hf_mlops.audit.sweeps import audit_specs, prompt_alignment, prompt_sweep, step_sweep
from hf_mlops.audit.tables import HELD_OUT_PAIR, SINGLE, accuracy_per_group, kind_of, spec_table, summary
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.device import choose_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.registry.hypernetworks import in_torch
from hf_mlops.registry.models import Champion
from hf_mlops.registry.runs import log_dataset, step_run
from hf_mlops.report import pictures
from hf_mlops.serving.sampler import DEFAULT_STEPS
from hf_mlops.steps.step import Step

SHOWN = 20  # groups in the picture of accuracy on each


@dataclass(frozen=True)
class Evaluate(Step):
    """Measures a hypernetwork, prints and logs.

    Args:
        champion: what to measure.
        dataset: that it was trained on.
        n: samples of each spec.
        seed: of the first.
        steps: denoising steps a sample.
    """

    name = "evaluate"
    room = "audit"

    champion: Champion
    dataset: Dataset
    n: int = 32
    seed: int = 0
    steps: int = DEFAULT_STEPS

    @property
    def _sampling(self) -> dict[str, int]:
        return {"n": self.n, "seed": self.seed, "steps": self.steps}

    @property
    def inputs(self) -> dict[str, Any]:
        return {**self.champion.identity, "device": choose_device("auto").type, "data": self.dataset.digest, **self._sampling}

    def run(self) -> Run:
        (hypernetwork, reference), dataset = in_torch(self.champion), self.dataset
        params = {"hypernetwork": str(self.champion), **self._sampling}
        with step_run(self.name, self.fingerprint, params) as active:
            log_dataset(dataset, "evaluation")
            specs = reference.judged()
            singles = [spec for spec in specs if kind_of(spec, reference) == SINGLE]
            held_out = [spec for spec in specs if kind_of(spec, reference) == HELD_OUT_PAIR]
            audits = audit_specs(hypernetwork, reference, dataset, specs, **self._sampling)
            table, judged = spec_table(audits, reference), control_table(reference, Gates())
            by_kind = summary(table)
            prompts = prompt_sweep(hypernetwork, dataset, [*singles, *held_out], seed=self.seed, steps=self.steps)
            alignment = prompt_alignment(prompts)
            steps = step_sweep(hypernetwork, reference, dataset, singles, seed=self.seed)
            frames = {"specs": table, "summary": by_kind, "prompts": prompts, "steps": steps, "controls": judged}
            for name, frame in frames.items():
                mlflow.log_text(frame.to_csv(index=False), f"{name}.csv")
            log_figures(by_kind, alignment)
            mlflow.log_metrics(
                {f"controls judged right/{one}": share for one, share in judged.set_index("control")["judged right"].items()}
            )
            log_pictures({spec: audits[spec] for spec in singles}, prompts, alignment, steps)
            print(by_kind.to_string(index=False, float_format="%.4f"))
            shown = alignment.clip(lower=-1).to_string(float_format="%.3f")
            print(f"\nprompt alignment (R² of log losses, -1 or less as -1)\n{shown}\n")
            print(f"controls\n{judged.to_string(index=False, float_format='%.3f')}\n")
            print(f"tables and pictures: artifacts of run {active.info.run_id}")
        return active


def log_figures(by_kind: pd.DataFrame, alignment: pd.DataFrame) -> None:
    """Logs the alignment of prompts, and the figures of each kind of spec as `kind/figure`."""
    for name, row in alignment.iterrows():
        mlflow.log_metrics({f"prompt {figure}/{name}".replace(",", ""): value for figure, value in row.dropna().items()})
    for kind, row in by_kind.set_index("kind").iterrows():
        figures = {f"{kind}/{name}".replace("(points)", "in points"): value for name, value in row.dropna().items()}
        mlflow.log_metrics(figures)


def log_pictures(singles: dict[ForgetSpec, Audit], prompts: pd.DataFrame, alignment: pd.DataFrame, steps: pd.DataFrame) -> None:
    """Logs the pictures of an evaluation: of the audits of single groups, and of the sweeps over prompts and steps."""
    shown = dict(list(singles.items())[:SHOWN])
    every = next(iter(shown)).group_names
    columns = list(range(len(every))) if len(every) <= SHOWN else sorted(group for spec in shown for group in spec.groups)
    names = [every[group] for group in columns]
    sampled, retrained = (values[:, columns].numpy() for values in accuracy_per_group(shown))
    per_group = pictures.accuracy_heat_map(sampled, retrained, [str(spec) for spec in shown], names)
    mlflow.log_figure(per_group, "accuracy_per_group.png")
    mlflow.log_figure(pictures.prompted_against_observed(prompts, alignment), "prompt_alignment.png")
    mlflow.log_figure(pictures.accuracy_over_steps(steps), "accuracy_over_steps.png")
