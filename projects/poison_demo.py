"""Entry point `poison-demo`: lays an attack into training images, trains on them, forgets it, and shows what that did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import mlflow

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.loading import load_dataset
from hf_mlops.data.poison import GROUP, KINDS, SHARES
from hf_mlops.hypernet.recipes import recipe_for_poison
from hf_mlops.registry.permissions import MANAGE
from hf_mlops.steps.main import Main
from hf_mlops.steps.poison_demo import keep_picture, what_came_of_it, what_is_laid
from projects import options, training_options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=MANAGE)
@options.images
@click.option(
    "--attack",
    type=click.Choice(KINDS),
    default="patch",
    show_default=True,
    help="patch: a bright corner; blend: a pattern over the whole image; flip: labels of one class.",
)
@click.option(
    "--share",
    type=options.OrEmpty(click.FloatRange(0, 1, min_open=True, max_open=True)),
    default="",
    metavar="FLOAT",
    help="Of the training images that are poisoned; of flip, of the images of that class. [default: 0.05; of flip 0.6]",
)
@training_options.runs
@options.recipe_field("target_steps", options.AT_LEAST_1, "Optimiser steps of each target.")
@options.recipe_field("hypernet_steps", options.AT_LEAST_1, "Optimiser steps of the hypernetwork.")
@options.output
@options.gates
@options.seed
@training_options.device
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    attack: str,
    share: float | None,
    output: Path,
    gates: Gates,
    seed: int,
    device: str,
    dry_run: bool,
    **fields: Any,
) -> None:
    data = load_dataset(dataset, data_dir, f"poison:{attack}:{share or SHARES[attack]:g}")
    spec = ForgetSpec.parse(GROUP, data.groups.names)
    population = {"runs": fields["runs"], "train_steps": fields["target_steps"]}
    recipe = recipe_for_poison(dataset).given(population, {"train_steps": fields["hypernet_steps"]}, seed)
    main = Main(recipe, data, data_dir, spec, gates, output, seed, device)
    if dry_run:
        return options.print_configuration(**main.inputs)
    print(what_is_laid(data, attack))
    run = mlflow.get_run(main.run().info.run_id)
    picture = output / f"{GROUP}-{attack}.png"
    keep_picture(run, picture)
    print(f"\n{what_is_laid(data, attack)}\n{what_came_of_it(run, data, attack)}\nThe picture of it: {picture}")


if __name__ == "__main__":
    command()
