"""Can samples be told from freshly retrained targets? Two-sample tests on test losses, confidences and accuracies per class.

    python -m benchmarks.indistinguishable --dataset digits

For each spec: samples against fresh targets, and one half of the fresh targets against the other, which is what chance gives.
"alone" is what a logistic regression tells from losses, confidences or accuracies by themselves.
Each fresh target has a data order and sample weights of its own. Writes
benchmarks/results/indistinguishable-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from typing import Any

import click
import pandas as pd
import torch

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import ForgetSpec, retrain
from hf_mlops.audit import measure
from hf_mlops.twosample import behaviour, tell_apart

SPECS = ("", "1", "7", "3,8", "0,4,9")
STEPS_COMPARED = (1, 2, 5, 10, 25)
MEASURES = ("log losses", "confidences", "accuracies")


@click.command(help=__doc__)
@options
@click.option("--targets", default=128, show_default=True, help="Fresh targets, and samples, of each spec.")
def command(targets: int, **choice: Any) -> None:
    made = trained(**choice)
    data, hypernetwork = made.dataset, made.hypernetwork
    specs = [ForgetSpec.parse(text, data.group_names) for text in SPECS]
    masks = torch.tensor([spec.mask for spec in specs])
    seed, together = choice["seed"], len(specs)  # one of each spec shares a data order
    fresh = retrain(made.population.config, data, masks.repeat(targets, 1), seed, choice["device"], together).unflatten(
        0, (-1, together)
    )
    rows = []
    for number, spec in enumerate(specs):
        real = behaviour(made.population.target, fresh[:, number], data.test, len(data.group_names))
        half = targets // 2
        disagreement = measure(made.population.target, fresh[:, number], spec, data.test).disagreement()
        row = {"forget": str(spec), "steps": "fresh against fresh", **compare(real[:half], real[half:])}
        rows.append({**row, "spread of log loss": log_loss_spread(real, spec), "disagreement": disagreement})
        for steps in STEPS_COMPARED:
            weights = hypernetwork.sample(spec, targets, seed, steps).weights
            sampled = behaviour(hypernetwork.target, weights, data.test, len(data.group_names))
            row = {"forget": str(spec), "steps": str(steps), **compare(real, sampled)}
            disagreement = measure(hypernetwork.target, weights, spec, data.test).disagreement()
            rows.append({**row, "spread of log loss": log_loss_spread(sampled, spec), "disagreement": disagreement})
    write_table(f"indistinguishable-{made.name}", pd.DataFrame(rows))
    means = pd.DataFrame(rows).groupby("steps", sort=False).mean(numeric_only=True)
    print(means.to_string(float_format="%.3f"))


def compare(real: torch.Tensor, sampled: torch.Tensor) -> dict[str, float]:
    """Areas under the ROC curve: of both judges on everything, and on each measure alone."""
    parts = zip(MEASURES, real.chunk(3, 1), sampled.chunk(3, 1), strict=True)
    judge = "logistic regression"
    alone = {f"{name} alone": tell_apart(*pair, judges=[judge])[judge] for name, *pair in parts}
    return {**tell_apart(real, sampled), **alone}


def log_loss_spread(features: torch.Tensor, spec: ForgetSpec) -> float:
    """Standard deviation over classifiers of the log loss on a class of D_r, mean over those classes."""
    kept = ~torch.tensor(spec.mask)
    return float(features[:, : len(kept)][:, kept].std(0).mean())


if __name__ == "__main__":
    command()
