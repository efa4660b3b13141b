"""Entry point `hypernet`: trains the hypernetwork on the latest population, audits it and registers it as champion."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.data.loading import load_dataset
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.registry.permissions import MANAGE
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.targets import find_targets
from projects import options, training_options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=MANAGE)
@options.data
@training_options.architecture
@click.option("--targets-run", default="", metavar="RUN_ID", help="Run of the population; by default the latest that fits.")
@training_options.variant
@training_options.space
@options.recipe_field("token_width", click.IntRange(min=0), "Coordinates in a token; 0: 128 raw parameters, or 16 latents.")
@options.recipe_field("components", options.AT_LEAST_1, "Principal components: of a long row (raw), of all weights (latent).")
@options.recipe_field("width", options.AT_LEAST_1, "Width of the transformer.")
@options.recipe_field("layers", options.AT_LEAST_1, "Layers of the transformer.")
@options.recipe_field("train_steps", options.AT_LEAST_1, "Optimiser steps.")
@options.recipe_field("behaviour", click.FloatRange(0, 1000), "Weight of the behavioural loss.")
@options.gates
@options.seed
@training_options.device
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    groups: str,
    architecture: str,
    targets_run: str,
    gates: Gates,
    seed: int,
    device: str,
    dry_run: bool,
    **fields: Any,
) -> None:
    data = load_dataset(dataset, data_dir, groups)
    recipe = find_recipe(dataset, architecture, data.groups.are_classes).given({}, fields, seed)
    if dry_run:
        made_of = {"dataset": dataset, "data_dir": data_dir, "groups": groups, "device": device}
        return options.print_configuration(**made_of, hypernet=asdict(recipe.hypernet), gates=asdict(gates))
    Hypernet(recipe.hypernet, gates, find_targets(data, recipe.population.architecture, targets_run), data, device).run()


if __name__ == "__main__":
    command()
