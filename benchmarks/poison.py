"""Is a backdoor gone, and is what was clean kept? Attacks laid into the training images, and a request to forget them.

    python -m benchmarks.poison --dataset digits                        # minutes for each attack
    python -m benchmarks.poison --dataset mnist --architecture mlp-32
    python -m benchmarks.poison --dataset digits --known 0.1 --known 0.5 --known 0.8

For each attack (`hf_mlops/data/poison.py`) a population of few runs and its hypernetwork. *Attack success* is the share of test
images with the trigger, of other classes, that are taken for what the attacker wants (of `flip`: of test images of its source
class); before, after retraining without the poison that is known, and sampled. Accuracy is on clean test images, in which no
class is forgotten.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops import ForgetSpec, Gates, audit_samples
from hf_mlops.data.poison import SHARES


@click.command(help=__doc__)
@options
@click.option("--samples", default=32, show_default=True)
@click.option("--attack", "attacks", type=click.Choice(list(SHARES)), multiple=True, help="Repeatable; by default all.")
@click.option("--known", multiple=True, default=[1.0], show_default=True, help="Share of the poison that is named; repeatable.")
@click.option("--runs", type=int, help="Of each population; by default the recipe's, 256 for poison alone.")
@click.option("--hypernet-steps", type=int, help="By default the recipe's, fewer for poison alone.")
def command(samples: int, attacks: tuple[str, ...], known: tuple[float, ...], groups: str, **choice: Any) -> None:
    rows = []
    for attack in attacks or SHARES:
        share = SHARES[attack]
        for part in known:
            laid = f"poison:{attack}:{share}" + f":known={part:g}" * (part < 1)
            made = trained(groups=f"{groups}+{laid}" if groups else laid, **choice)
            spec = ForgetSpec.parse("poison", made.dataset.groups.names)
            drawn = made.hypernetwork.sample(spec, samples, choice["seed"])
            audit = audit_samples(made.hypernetwork.target, drawn, made.dataset, made.reference)
            assert audit.unforgotten is not None
            who = {"before": audit.unforgotten, "retrained": audit.reference, "sampled": audit.sampled}
            rows.append(
                {
                    "attack": attack,
                    "share": share,
                    "known": part,
                    **{f"attack success, {name}": one.attack_success.mean().item() for name, one in who.items()},
                    "worst sample": audit.sampled.attack_success.max().item(),
                    **{f"accuracy, {name}": one.accuracy_on_sets(spec).retain.mean().item() for name, one in who.items()},
                    "closed": audit.figures().get("closed", np.nan),
                    "pass the gates": audit.passed(Gates()),
                    **{f"seconds, {name}": seconds for name, seconds in made.seconds.items()},
                }
            )
    partly = "" if known == (1.0,) else "-known"
    write_table(f"poison-{choice['dataset']}-{made.population.config.architecture}{partly}", pd.DataFrame(rows))


if __name__ == "__main__":
    command()
