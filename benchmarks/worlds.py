"""Does a sample carry which images of D_f the hypernetwork's targets were trained on? Membership, played over whole worlds.

    python -m benchmarks.worlds --dataset digits

A world is a population and a hypernetwork by the recipe, trained on half of the training images; every image is in one world of
each pair. For each class forgotten, and a few pairs of classes that no target forgot together, each image of them is judged, in
or out of the world, by U-LiRA (`hf_mlops/audit/likelihood.py`) and by boosted trees (`hf_mlops/audit/boosted.py`), from one
classifier and from all of a world by their mean. "production" forgot nothing: members must be seen there, or else nothing is
shown. "retrained" has not seen the class: no judge can win. Excess is over that. Intervals are of 95 %.

A world's answers are kept, so that a run that was broken off goes on, and so does one of more worlds.
Writes benchmarks/results/worlds-DATASET-NETWORK.csv.
"""

from __future__ import annotations

import warnings
from typing import Any

import click
import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks import RESULTS
from benchmarks.trained import options
from benchmarks.world import PRODUCTION, RETRAINED, SAMPLED, SINGLE, Plan, worlds_answers
from hf_mlops import load_dataset
from hf_mlops.audit.boosted import boosted_scores
from hf_mlops.audit.detection import AUC, RATES
from hf_mlops.audit.likelihood import Judged, likelihood_ratios, true_class_logits
from hf_mlops.audit.worlds import halves
from hf_mlops.base.progress import Progress
from hf_mlops.serving.sampler import DEFAULT_START_TIME

LEAST_AREA, MOST_EXCESS, MOST_TRUE = 0.57, 0.01, 0.015  # asked for: production's area, excess, true positives at 1 %
BOOSTED = 4  # classifiers of a world that trees judge one by one


@click.command(help=__doc__)
@options
@click.option("--worlds", default=16, show_default=True, help="An even number from 6.")
@click.option("--models", default=32, show_default=True, help="Classifiers of each kind and spec in each world.")
@click.option("--runs", type=int, help="Of a world's population; by default the recipe's.")
@click.option("--hypernet-steps", type=int, help="Of a world's hypernetwork; by default the recipe's.")
def command(worlds: int, afresh: bool, **choice: Any) -> None:
    warnings.filterwarnings("ignore", "start_time")  # that is what is measured
    data = load_dataset(choice["dataset"], choice["data_dir"])
    plan = Plan.of(data, **{name: choice[name] for name in ("architecture", "models", "runs", "hypernet_steps", "seed")})
    members = halves(data.train.labels, worlds, choice["seed"])
    answers = worlds_answers(plan, data, members, choice["device"], afresh)
    labels = data.train.labels[plan.judged]
    tables = []
    with Progress("judging", len(answers), "kind") as progress:
        for kind, given in answers.items():
            there = ~given[0, 0].isnan().any(-1)
            tables.append(judge(kind, given[:, :, there], members[:, plan.judged][:, there], labels[there]))
            progress.advance()
    table = with_excess(pd.concat(tables, ignore_index=True))
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"worlds-{plan.name}.csv", index=False, float_format="%.5g")
    for (name, of), part in table.groupby(["judge", "of"], sort=False):
        print(f"\n{name}, {of}\n{part.drop(columns=['judge', 'of']).to_string(index=False, float_format='%.4f')}", flush=True)


def judge(kind: str, answers: Tensor, members: Tensor, labels: Tensor) -> pd.DataFrame:
    """One row for each judge, from one classifier and from all.

    Args:
        answers: (worlds, models, images, classes) log probabilities.
    """
    answers = answers.float()
    logits = true_class_logits(answers, labels)
    scores = {
        ("likelihood ratio", "one classifier"): likelihood_ratios(logits, members, labels),
        ("likelihood ratio", "all"): likelihood_ratios(logits.mean(1, keepdim=True), members, labels),
        ("boosted trees", "one classifier"): boosted_scores(answers[:, :BOOSTED], members, labels),
        ("boosted trees", "all"): boosted_scores(answers.mean(1, keepdim=True), members, labels),
    }
    rows = []
    for (name, of), given in scores.items():
        judged = Judged(given, members)
        areas = judged.areas()
        low, high = np.quantile(areas, (0.025, 0.975))
        found = judged.detection()
        rates = {rate: found[rate] for rate in RATES}
        rows.append({"judge": name, "of": of, "kind": kind, AUC: found[AUC], "low": low, "high": high, **rates, "areas": areas})
    return pd.DataFrame(rows)


def with_excess(table: pd.DataFrame) -> pd.DataFrame:
    """Without the draws of areas; with how far an area is above retrained classifiers' of the same set, and what was asked for.

    There is no excess where the same judge did not detect members in production: its interval reaches down to 0.5.
    """
    rows = []
    for _, part in table.groupby(["judge", "of"], sort=False):
        by_kind = part.set_index("kind")
        informative = by_kind.loc[PRODUCTION, "low"] > 0.5
        for kind, row in by_kind.iterrows():
            name = f"{RETRAINED}, {SINGLE if kind == PRODUCTION else kind.split(', ')[1]}"
            null, told = by_kind.loc[name], informative and kind != name
            above = row["areas"] - null["areas"] if told else np.full(1, np.nan)  # of the same worlds and images
            low, high = np.quantile(above, (0.025, 0.975))
            excess = row[AUC] - null[AUC] if told else float("nan")
            figures = {"excess": excess, "excess low": low, "excess high": high}
            asked = as_asked(kind, row, excess) if informative else "not informative"
            rows.append({"kind": kind, **row.drop("areas"), **figures, "asked for": asked})
    return pd.DataFrame(rows)


def as_asked(kind: str, row: pd.Series, excess: float) -> str:
    """Whether a row is as asked for; nothing where nothing was asked."""
    if kind == PRODUCTION:
        return "met" if row[AUC] >= LEAST_AREA else "missed"
    if kind.startswith((SAMPLED, f"start time {DEFAULT_START_TIME}")):
        return "met" if excess <= MOST_EXCESS and row[next(iter(RATES))] <= MOST_TRUE else "missed"
    return ""


if __name__ == "__main__":
    command()
