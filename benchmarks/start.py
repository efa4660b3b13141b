"""Start weights: how much a sample changes the classifier in production, against how much retraining changes it.

    python -m benchmarks.start --dataset digits

In production is a target that forgot nothing, of a run that the hypernetwork never saw. Churn is the share of the test images
in D_r that are predicted differently. Writes benchmarks/results/start-DATASET-NETWORK.csv.
"""

from __future__ import annotations

import warnings
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import audit_samples
from hf_mlops.audit.measure import measure
from hf_mlops.audit.tables import SINGLE, kind_of

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
SAMPLES = 4  # of each production classifier and spec


@click.command(help=__doc__)
@options
def command(**choice: Any) -> None:
    warnings.filterwarnings("ignore", "start_time")  # that is what is measured
    made = trained(**choice)
    population, hypernetwork, data = made.population, made.hypernetwork, made.dataset
    specs = [spec for spec in made.reference.specs() if kind_of(spec, made.reference) == SINGLE]
    results = []
    for weights in population.retrained(torch.zeros(len(data.groups), dtype=torch.bool)):
        for spec in specs:
            before = measure(population.target, weights[None], spec, data.test)
            retrained = made.reference.beside(spec)
            result = {"start time": "retrained", "churn": retrained.churn(before.predictions[0]).mean().item()}
            retain, forget = (values.mean().item() for values in retrained.accuracy_on_sets())
            results.append({**result, "retain_accuracy": retain, "forget_accuracy": forget})
            for time in TIMES:
                samples = hypernetwork.sample(spec, SAMPLES, choice["seed"], start=weights, start_time=time)
                evidence = audit_samples(hypernetwork.target, samples, data, made.reference)
                churn = evidence.sampled.churn(before.predictions[0]).mean().item()
                results.append({"start time": str(time), "churn": churn, **evidence.figures()})
    table = pd.DataFrame(results).groupby("start time", sort=False)[["churn", "retain_accuracy", "forget_accuracy"]].mean()
    write_table(f"start-{made.name}", table.reset_index())


if __name__ == "__main__":
    command()
