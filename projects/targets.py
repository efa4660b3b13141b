"""Entry point `targets`: trains a population of target classifiers and their retrain reference."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hf_mlops.data.loading import load_dataset
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.population.executor import Engine
from hf_mlops.registry.permissions import EDIT
from hf_mlops.steps.targets import Targets
from projects import options, training_options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=EDIT)
@options.data
@training_options.architecture
@training_options.scope
@training_options.runs
@options.recipe_field("train_steps", options.AT_LEAST_1, "Optimiser steps of each target.")
@options.recipe_field("checkpoints", options.AT_LEAST_1, "Weights kept of each target.")
@options.recipe_field("reference_runs", options.AT_LEAST_1, "Retrained targets of each reference spec.")
@training_options.held_out_pairs
@options.seed
@training_options.device
@training_options.engines
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    groups: str,
    architecture: str,
    seed: int,
    device: str,
    engine: Engine,
    dry_run: bool,
    **fields: Any,
) -> None:
    config = find_recipe(dataset, architecture).given(fields, {}, seed).population
    if dry_run:
        return options.print_configuration(
            dataset=dataset, data_dir=data_dir, groups=groups, device=device, population=asdict(config)
        )
    Targets(config, load_dataset(dataset, data_dir, groups), device, engine).run()


if __name__ == "__main__":
    command()
