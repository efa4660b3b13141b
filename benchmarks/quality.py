"""Quality of the hypernetwork of a data set and network, beside the retrain reference: a row of docs/results.md.

    python -m benchmarks.quality --dataset mnist --architecture mlp-32

Writes benchmarks/results/quality-DATASET-NETWORK.csv and the reliability picture docs/pictures/reliability-DATASET-NETWORK.png.
"""

from __future__ import annotations

import time
from typing import Any

import click
import pandas as pd

from benchmarks import PICTURES, write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops.audit.sweeps import audit_specs, prompt_alignment, prompt_sweep
from hf_mlops.audit.tables import HELD_OUT_PAIR, SINGLE, kind_of, spec_table, summary
from hf_mlops.report import pictures
from hf_mlops.serving.sampler import DEFAULT_STEPS

STEPS_COMPARED = (1, DEFAULT_STEPS, 10)


@click.command(help=__doc__)
@options
def command(**choice: Any) -> None:
    made = trained(**choice)
    rows = []
    for steps in STEPS_COMPARED:
        row, sweep = figures(made, steps)
        rows.append({"measured": made.name, "denoising steps": steps, **row})
        write_table(f"quality-{made.name}", pd.DataFrame(rows))
        if steps == DEFAULT_STEPS:
            PICTURES.mkdir(exist_ok=True)
            figure = pictures.prompted_against_observed(sweep, prompt_alignment(sweep))
            figure.savefig(PICTURES / f"reliability-{made.name}.png", dpi=80)


def figures(made: Trained, steps: int) -> tuple[dict[str, float], pd.DataFrame]:
    """One row of the table, and the prompt sweep that it rests on."""
    started = time.monotonic()
    specs = made.reference.specs()
    audits = audit_specs(made.hypernetwork, made.reference, made.dataset, specs, steps=steps)
    table = summary(spec_table(audits, made.reference)).set_index("kind")
    row = {f"{kind}: {name}": value for kind in table.index for name, value in table.loc[kind].dropna().items()}
    prompted = [spec for spec in specs if kind_of(spec, made.reference) in (SINGLE, HELD_OUT_PAIR)]
    sweep = prompt_sweep(made.hypernetwork, made.dataset, prompted, steps=steps)
    seconds = {**made.seconds, "evaluation": time.monotonic() - started}
    row |= {f"{figure}: {name}": value for name, one in prompt_alignment(sweep).iterrows() for figure, value in one.items()}
    return {**row, **{f"{name} (s)": value for name, value in seconds.items()}}, sweep


if __name__ == "__main__":
    command()
