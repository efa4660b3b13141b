"""Are the gates to be believed? Controls of known standing, and samples, at the default gates: a table of docs/results.md.

    python -m benchmarks.controls --dataset digits

Controls are made of the retrain reference: targets retrained for the very spec, each judged beside the others, must pass; the
original, the original with the classes masked, targets that forgot less and such as forgot more must not. Nor must the original
fine-tuned on D_r by the defaults of `benchmarks.rival.methods`: a tenth of a retraining's steps, from its learning rate down to
0; what becomes of as many steps as a retraining takes is shown beside. Then samples of every spec of the reference, by kind of
spec: the share that passes, and how far answers on D_f are from retrained ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.rival.descents import fine_tune
from benchmarks.rival.methods import FINE_TUNE, METHODS
from benchmarks.rival.request import Request
from benchmarks.trained import Trained, options, trained
from hf_mlops import ForgetSpec, Gates
from hf_mlops.audit.controls import FINE_TUNED, control_table
from hf_mlops.audit.measure import Measured, measure
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import kind_of

LONG = "fine-tuned, as long as a retraining"


@click.command(help=__doc__)
@options
@click.option("--samples", default=8, show_default=True, help="Of each spec.")
def command(samples: int, **choice: Any) -> None:
    made, gates = trained(**choice), Gates()
    judged = control_table(made.reference, gates, partial(fine_tuned, made))
    write_table(f"controls-{made.name}", judged)
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


def fine_tuned(made: Trained, spec: ForgetSpec) -> dict[str, Measured]:
    """Reference targets that forgot nothing, fine-tuned on D_r: for a while, and for long."""
    population, data = made.population, made.dataset
    originals = population.retrained(torch.zeros(len(data.groups), dtype=torch.bool))
    request = Request.of(population.target, originals, spec, data.train, population.config)
    after = {FINE_TUNED: METHODS[FINE_TUNE](request), LONG: fine_tune(request, effort=1.0, rate=1.0)}
    return {name: measure(population.target, weights, spec, data.test) for name, weights in after.items()}


if __name__ == "__main__":
    command()
