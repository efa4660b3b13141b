"""Which way to forget comes nearest to retraining, and at what price? A sample beside its rivals, on one target and machine.

    python -m benchmarks.rivals --dataset digits
    python -m benchmarks.rivals --dataset digits --pairs       # pairs never together instead of single classes
    python -m benchmarks.rivals --dataset digits --groups poison:patch:0.05

In production are targets that forgot nothing and that the hypernetwork never saw. Rivals start from them, and all are tuned by
one budget on validation images: their defaults and what Optuna tries after them, on two in production and every third spec, to
be near retrained targets in accuracy on D_f and on D_r and in their answers on D_f. Nobody has those at a request, so that
tuning favours rivals; a sample is drawn as it is by default. Seconds are the processor's, of all threads.

A figure's gap is its distance from the mean of targets retrained for the spec; that of one of them from the mean of the others
is the floor. In units of the larger one of the original's and the mask's gap they are summed up, and the sum ranks. A rival is
as good as a sample if its answers on D_f diverge no more and it is as accurate on D_r. For groups that are no classes
it is training images of D_f that rivals are tuned on and all are judged by, and there is no mask. Needs Optuna:
pip install -e '.[bench]'.
Writes benchmarks/results/rivals-DATASET-NETWORK.csv, and rivals-tuned-, rivals-gaps- and rivals-price-.
"""

from __future__ import annotations

import json
from math import nan
from typing import Any

import click
import pandas as pd

from benchmarks import write_table
from benchmarks.rival.contest import NEEDS, ORIGINAL, RETRAINED, SAMPLED, Contest, Settings
from benchmarks.rival.figures import DIVERGENCE, FIGURES, RETAIN_ACCURACY
from benchmarks.rival.methods import MASK, METHODS
from benchmarks.rival.ranking import fastest_as_good, floor, gap, ranked
from benchmarks.trained import options, trained
from hf_mlops.audit.tables import HELD_OUT_PAIR, SINGLE, kind_of
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.progress import Progress

ALLOWED = "allowed: --pairs where some are never together in training, which takes three groups and is not so with --product"


@click.command(help=__doc__)
@options
@click.option("--pairs", is_flag=True, help="Forget the pairs never together in training, and not single groups.")
@click.option("--production", default=8, show_default=True, help="Classifiers that are to forget, at most.")
@click.option("--trials", default=20, show_default=True, help="Hyperparameters tried of each rival, its defaults among them.")
@click.option("--turns", default=9, show_default=True, help="Requests of each kind that are timed.")
def command(pairs: bool, production: int, trials: int, turns: int, **choice: Any) -> None:
    made = trained(**choice)
    kind = HELD_OUT_PAIR if pairs else SINGLE
    specs = [spec for spec in made.reference.judged() if kind_of(spec, made.reference) == kind]
    if not specs:
        raise BadRequest(f"there is no {kind} to forget of the groups {', '.join(made.dataset.groups.names)}; {ALLOWED}")
    contest = Contest(made, specs, production, choice["seed"], choice["device"])
    name = f"{'-pairs' if pairs else ''}-{made.name}"
    chosen = {}
    with Progress("tuning", len(contest.methods), "rival") as progress:
        for rival in contest.methods:
            chosen[rival] = contest.tune(rival, trials)
            progress.advance()
    listed = [{"rival": rival, **vars(one), "chosen": json.dumps(one.chosen)} for rival, one in chosen.items()]
    write_table(f"rivals-tuned{name}", pd.DataFrame(listed))
    compare(contest, {rival: one.chosen for rival, one in chosen.items()}, turns, name)


def compare(contest: Contest, settings: Settings, turns: int, name: str) -> None:
    """Writes who is how near to retraining, in what time, and what a sample saves."""
    means, gaps = judged(contest, settings)
    ranks = ranked(gaps, [way for way in (ORIGINAL, MASK) if way in gaps.index], RETRAINED)
    write_table(f"rivals-gaps{name}", ranks.reset_index(names="way"))
    seconds, once = contest.seconds(settings, turns), sum(contest.made.seconds.values())
    taken = pd.Series(seconds)
    table = means.assign(
        **{
            "gap on D_r (points)": 100 * (means.loc[RETRAINED, RETAIN_ACCURACY] - means[RETAIN_ACCURACY]),
            "sum of gaps": ranks["sum of gaps"],
            "rank": ranks["rank"],
            "needs": pd.Series(NEEDS),
            "seconds": taken,
            "of a retraining": taken / taken[RETRAINED],
        }
    )
    write_table(f"rivals{name}", table.reset_index(names="way"))
    write_table(f"rivals-price{name}", pd.DataFrame([price(means, seconds, once)]))


def price(means: pd.DataFrame, seconds: dict[str, float], once: float) -> dict[str, object]:
    """What a sample saves, against retraining and against the fastest rival that is as good; NaN if there is none."""
    rivals = {name: taken for name, taken in seconds.items() if name in METHODS}
    best = fastest_as_good(means, rivals, SAMPLED, DIVERGENCE, RETAIN_ACCURACY)
    row: dict[str, object] = {"trained once (s)": once, "fastest rival as good": best or "none"}
    for what, taken in (("a retraining", seconds[RETRAINED]), ("that rival", seconds.get(best or "", nan))):
        row[f"{what}, in samples"] = taken / seconds[SAMPLED]
        row[f"requests to break even with {what}"] = once / saved if (saved := taken - seconds[SAMPLED]) > 0 else nan
    return row


def judged(contest: Contest, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figures and their gaps, means over specs: a row for each way to forget, a column for each of `FIGURES` that there is."""
    figures, gaps = [], []
    with Progress("judging", len(contest.specs), "spec") as progress:
        for spec in contest.specs:
            for way, found in (by_way := contest.figures(spec, settings)).items():
                wanted = by_way[RETRAINED]
                figures.append({"way": way, **{name: sum(found[name]) / len(found[name]) for name in FIGURES}})
                own = way == RETRAINED
                gaps.append({"way": way, **{n: floor(found[n]) if own else gap(found[n], wanted[n]) for n in FIGURES}})
            progress.advance()
    means, distances = (pd.DataFrame(rows).groupby("way", sort=False).mean() for rows in (figures, gaps))
    there = means.columns[means.notna().any()]
    return means[there], distances[there]


if __name__ == "__main__":
    command()
