"""Are samples nearer to retrained targets than to the original, a mask, or targets that forgot less or more? A relative test.

    python -m benchmarks.relative --dataset digits                        # the specs of the reference, and controls
    python -m benchmarks.relative --dataset digits --every --targets 4    # all proper subsets of the classes, samples alone
    python -m benchmarks.relative --dataset digits --groups shard:20

For each spec, samples and controls are judged between its retrained targets and each alternative. A row for each kind judged:
the share of sets called nearer to retrained targets than to the original, to a mask, to each set that forgot one group less or
more, and than to all of them. Samples and held-out retrained targets are to be; the rest not. "Called right" is about all of
them. Alternatives and retrained targets are those of the reference, or with `--every` fresh ones; controls are fresh ones.

Then what the test is worth: its level, on sets that are half retrained and half original, and between sets of retrained targets
alone; and its power, on held-out retrained targets, by how many classifiers there are of each. Writes
benchmarks/results/relative-DATASET-NETWORK.csv, the same of samples by the number of groups forgotten, and the level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import click
import pandas as pd
import torch
from torch import Tensor

from benchmarks import write_table
from benchmarks.trained import Trained, options, trained
from hf_mlops import ForgetSpec, Reference, retrain
from hf_mlops.audit.attack_table import SAMPLED
from hf_mlops.audit.controls import CONTROLS, ORIGINAL, RETRAINED
from hf_mlops.audit.relative import Relative, against_all, alternatives, answers, relative_test
from hf_mlops.base.progress import Progress
from hf_mlops.population.outputs import Outputs

SPECS_AT_ONCE = 128  # retrained together, in one data order for each number
SIZES = (4, 6, 8)  # classifiers of each kind, of which the power is shown
ALL = "all"


@click.command(help=__doc__)
@options
@click.option("--samples", default=8, show_default=True, help="Of each spec.")
@click.option("--targets", default=8, show_default=True, help="Fresh ones of each spec.")
@click.option("--every", is_flag=True, help="Samples of all proper subsets of the classes, beside fresh targets; no controls.")
def command(samples: int, targets: int, every: bool, **choice: Any) -> None:
    made = trained(**choice)
    seed = choice["seed"]
    masks = torch.tensor([spec.mask for spec in made.reference.specs()])
    if every:
        masks = torch.tensor([mask for mask in product((False, True), repeat=len(made.dataset.groups)) if not all(mask)])
    fresh_targets = freshly(made, masks, targets, seed, choice["device"])
    known_targets = fresh_targets if every else made.reference
    specs = [spec for spec in known_targets.specs() if spec.groups]
    rows: list[dict[str, object]] = []
    levels: list[dict[str, object]] = []
    with Progress("relative tests", len(specs), "spec") as progress:
        for spec in specs:
            known = Kinds.of(known_targets, spec)
            weights = made.hypernetwork.sample(spec, samples, seed).weights
            sampled = Outputs.of_targets(made.hypernetwork.target, weights, made.dataset.audited, len(spec.group_names))
            judged = [(SAMPLED, answers(sampled, spec))]
            if not every:
                fresh = Kinds.of(fresh_targets, spec)
                judged += [(RETRAINED, fresh.retrained)]
                judged += [(kind, one) for kind, several in fresh.others.items() for one in several]
                levels += worth(known, fresh)
            for kind, one in judged:
                tests = against_all(one, known.retrained, known.others)
                rows.append({"judged": kind, "forget": str(spec), **called(tests)})
            progress.advance()
    table = pd.DataFrame(rows)
    table = table[["judged", "forget", *(f"than {kind}" for kind in CONTROLS if f"than {kind}" in table), ALL]]
    table["called right"] = table[ALL].eq(table["judged"].isin([SAMPLED, RETRAINED]))
    by_kind = table.drop(columns="forget").groupby("judged", sort=False)
    shares = by_kind.mean().assign(sets=by_kind.size()).reindex([SAMPLED, *CONTROLS]).dropna(how="all")
    name = f"{made.name}{'-every' * every}"
    write_table(f"relative-{name}", shares.reset_index())
    sampled_alone = table[table["judged"] == SAMPLED].assign(groups=lambda rows: rows["forget"].str.count(",") + 1)
    by_size = sampled_alone.drop(columns=["judged", "forget", "called right"]).groupby("groups")
    write_table(f"relative-sampled-{name}", by_size.mean().assign(specs=by_size.size()).reset_index())
    missed = sampled_alone.loc[~sampled_alone["called right"], "forget"]
    print("samples not called nearer to all:", "; ".join(missed) or "none")
    if every:
        return
    level = pd.DataFrame(levels).groupby(["case", "of each"], sort=False)
    write_table(f"relative-level-{name}", level.mean().assign(sets=level.size()).reset_index())


def freshly(made: Trained, masks: Tensor, each: int, seed: int, device: str) -> Reference:
    """So many targets retrained for each mask, of one data order by each number and `SPECS_AT_ONCE` masks."""
    parts = [part.repeat(each, 1) for part in masks.split(SPECS_AT_ONCE)]
    weights = [retrain(made.population.config, made.dataset, part, seed, device, len(part) // each) for part in parts]
    return Reference.of_targets(made.population, torch.cat(weights), torch.cat(parts), made.dataset)


class Kinds(NamedTuple):
    """Answers of the targets retrained for a spec, and of its alternatives, by kind."""

    retrained: Tensor
    others: dict[str, list[Tensor]]

    @classmethod
    def of(cls, reference: Reference, spec: ForgetSpec) -> Kinds:
        apart = (reference.forgotten != torch.tensor(spec.mask)).sum(1)
        rows = (apart <= 1) | ~reference.forgotten.any(1)  # no other target is a control of this spec
        near = replace(reference, forgotten=reference.forgotten[rows], outputs=reference.outputs.only(rows))
        return cls(answers(near.beside(spec).outputs, spec), alternatives(near, spec))


def called(tests: dict[str, list[Relative]]) -> dict[str, float]:
    """Share of tests against each kind that call the judged nearer to retrained targets, and whether all do."""
    shares = {f"than {kind}": sum(one.nearer for one in some) / len(some) for kind, some in tests.items()}
    return {**shares, ALL: float(min(shares.values()) == 1)}


def worth(known: Kinds, fresh: Kinds) -> Iterator[dict[str, object]]:
    """Level and power of the test, by how many classifiers there are of each kind."""
    retrained, own = known.retrained, fresh.retrained
    (original,), (whole,) = known.others[ORIGINAL], fresh.others[ORIGINAL]
    enough = min(map(len, (retrained, original, own, whole)))
    for size in (size for size in SIZES if size <= enough):
        half = size // 2
        cases = [
            ("half retrained, half original", torch.cat([own[:half], whole[half:size]]), retrained[:size], original[:size]),
            ("held-out retrained", own[:size], retrained[:size], original[:size]),
        ]
        if half in SIZES:
            cases.append(("retrained alone", own[:half], retrained[:half], retrained[half:size]))
        for case, *rows in cases:
            found = relative_test(*rows)
            yield {"case": case, "of each": len(rows[0]), "called nearer": found.nearer, "nearer": found.difference < 0}


if __name__ == "__main__":
    command()
