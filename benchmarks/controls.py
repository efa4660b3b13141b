"""Are the gates to be believed? Controls of known standing, and samples, at the default gates: tables of docs/evidence.md.

    python -m benchmarks.controls --dataset digits
    python -m benchmarks.controls --dataset digits --groups shard:20

Controls are made of the retrain reference: targets retrained for the very spec, each judged beside the others, must pass; the
original, the original with the classes masked, targets that forgot less and such as forgot more must not. Nor must the original
fine-tuned on D_r by the defaults of `benchmarks.rival.methods`: a tenth of a retraining's steps, from its learning rate down to
0; what becomes of as many steps as a retraining takes is shown beside. What gates let pass may know D_f all the same: accuracy
on it after a few steps of relearning, mean over single classes, tells. Then samples of every spec of the reference, by kind of
spec: the share that passes, and how far answers on D_f are from retrained ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor

from benchmarks import write_table
from benchmarks.rival.descents import fine_tune
from benchmarks.rival.methods import FINE_TUNE, METHODS
from benchmarks.rival.request import Request
from benchmarks.trained import Trained, options, trained
from hf_mlops import ForgetSpec, Gates
from hf_mlops.audit.controls import FINE_TUNED, ORIGINAL, RETRAINED, control_table
from hf_mlops.audit.measure import Measured, measure
from hf_mlops.audit.relearning import EARLY, relearn
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import SINGLE, kind_of

LONG = "fine-tuned, as long as a retraining"


@click.command(help=__doc__)
@options
@click.option("--samples", default=8, show_default=True, help="Of each spec.")
def command(samples: int, **choice: Any) -> None:
    made, gates = trained(**choice), Gates()
    judged = control_table(made.reference, gates, partial(fine_tuned, made))
    back = judged["control"].map(relearnt(made))
    write_table(f"controls-{made.name}", judged.assign(**{f"relearnt, after {EARLY} steps": back}).dropna(axis=1, how="all"))
    rows = []
    specs = [spec for spec in made.reference.specs() if spec.groups]
    for spec, audit in audit_specs(made.hypernetwork, made.reference, made.dataset, specs, samples).items():
        for index in range(samples):
            refused, figures = audit.refused(gates, index), audit.figures(index)
            shown = {name: figures[name] for name in figures if name.endswith(("forget_divergence", "forget_distance"))}
            rows.append({"kind": kind_of(spec, made.reference), "passes": not refused, **shown, **dict.fromkeys(refused, 1.0)})
    by_kind = pd.DataFrame(rows).fillna(dict.fromkeys(gates.names, 0.0)).groupby("kind", sort=False)
    table = by_kind.mean().assign(samples=by_kind.size(), worst=by_kind["forget_distance"].max())
    write_table(f"gates-{made.name}", table.reset_index())


def relearnt(made: Trained) -> dict[str, float]:
    """Accuracy on D_f after `EARLY` steps of relearning, mean over single classes, of controls with weights of their own."""
    population, data, rows = made.population, made.dataset, []
    for spec in made.reference.specs():
        if kind_of(spec, made.reference) == SINGLE and data.groups.covered(spec.groups):
            own = {RETRAINED: population.retrained(torch.tensor(spec.mask)), ORIGINAL: originals(made)}
            for way, weights in {**own, **descended(made, spec)}.items():
                back = relearn(population.target, weights, spec, data, steps=EARLY)[EARLY]
                rows.append({"way": way, "back": back.mean().item()})
    return pd.DataFrame(rows).groupby("way")["back"].mean().to_dict() if rows else {}


def fine_tuned(made: Trained, spec: ForgetSpec) -> dict[str, Measured]:
    """What `descended` gives, measured."""
    target, audited = made.population.target, made.dataset.audited
    return {name: measure(target, weights, spec, audited) for name, weights in descended(made, spec).items()}


def descended(made: Trained, spec: ForgetSpec) -> dict[str, Tensor]:
    """Weights (targets, P) of the originals fine-tuned on D_r: for a while, and for long."""
    population = made.population
    request = Request.of(population.target, originals(made), spec, made.dataset.train, population.config)
    return {FINE_TUNED: METHODS[FINE_TUNE](request), LONG: fine_tune(request, effort=1.0, rate=1.0)}


def originals(made: Trained) -> Tensor:
    """Weights (targets, P) of reference targets that forgot nothing."""
    return made.population.retrained(torch.zeros(len(made.dataset.groups), dtype=torch.bool))


if __name__ == "__main__":
    command()
