"""How near is a target with further classes left out of its predictions to one retrained without them?

    python -m benchmarks.left_out --dataset digits

Composed targets, which a hypernetwork learns from, rest on the answer. Accuracy on the test images in D_r; entropy of the
predictions in nats, on the test images in D_r and in D_f; and membership: how well entropy tells training images in D_f from
test images in D_f, as the area under the ROC curve. Writes benchmarks/results/left_out-DATASET-NETWORK.csv.
"""

from __future__ import annotations

from typing import Any

import click
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import Dataset
from hf_mlops.hypernet.training import NEVER


@click.command(help=__doc__)
@options
def command(**choice: Any) -> None:
    made = trained(**choice)
    population, data = made.population, made.dataset
    rows = population.reference & population.final
    forgotten, weights = population.forgotten[rows], population.weights[rows]
    train, test = (population.target.logits(weights, split.images) for split in (data.train, data.test))
    results = []
    for wanted in (one for one in forgotten.unique(dim=0) if one.sum() > 1):
        own = None
        for had in reversed([one for one in forgotten.unique(dim=0) if not (one & ~wanted).any()]):  # `wanted` itself first
            them, left_out = (forgotten == had).all(1), wanted & ~had
            on_train, on_test = (logits[them].masked_fill(left_out, NEVER) for logits in (train, test))
            theirs = behaviour(on_train, on_test, data, wanted)
            own = own or theirs
            off = {f"{measure}, less retrained": value - own[measure] for measure, value in theirs.items()}
            results.append({"forgotten": int(wanted.sum()), "left out": int(left_out.sum()), **theirs, **off})
    write_table(f"left_out-{made.name}", pd.DataFrame(results).groupby(["forgotten", "left out"]).mean().reset_index())


def behaviour(train: Tensor, test: Tensor, data: Dataset, forgotten: Tensor) -> dict[str, float]:
    """What targets with logits (N, images, classes) do on D_r and D_f, means over the N."""
    away, members = forgotten[data.test.labels], forgotten[data.train.labels]
    uncertain = entropy(test)
    labels = torch.cat([torch.ones(int(members.sum())), torch.zeros(int(away.sum()))])
    scores = -torch.cat([entropy(train[:, members]), uncertain[:, away]], 1)
    return {
        "accuracy on D_r": (test.argmax(-1) == data.test.labels)[:, ~away].float().mean().item(),
        "entropy on D_r": uncertain[:, ~away].mean().item(),
        "entropy on D_f": uncertain[:, away].mean().item(),
        "membership in D_f": float(sum(roc_auc_score(labels, one) for one in scores) / len(scores)),
    }


def entropy(logits: Tensor) -> Tensor:
    """(N, images, classes) -> (N, images), nats."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


if __name__ == "__main__":
    command()
