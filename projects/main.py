"""Entry point `main`: the whole path, each step a child run; finished steps with the same inputs are re-used."""

from __future__ import annotations

from pathlib import Path

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.loading import load_dataset
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.population.executor import Engine
from hf_mlops.registry.permissions import MANAGE
from hf_mlops.steps.main import Main
from projects import options, training_options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=MANAGE)
@options.data
@training_options.architecture
@training_options.scope
@training_options.runs
@options.recipe_field("target_steps", options.AT_LEAST_1, "Optimiser steps of each target.")
@training_options.held_out_pairs
@training_options.variant
@training_options.space
@options.recipe_field("hypernet_steps", options.AT_LEAST_1, "Optimiser steps of the hypernetwork.")
@options.forget(
    "Forget spec of the classifier to register: names of groups, joined by commas; by default 7 of digits.", required=False
)
@options.output
@options.gates
@options.retrained
@options.seed
@training_options.device
@training_options.engines
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    groups: str,
    architecture: str,
    forget_class: str,
    output: Path,
    gates: Gates,
    retrained: int,
    seed: int,
    device: str,
    engine: Engine,
    dry_run: bool,
    **fields: float | str | None,
) -> None:
    data = load_dataset(dataset, data_dir, groups)
    spec = ForgetSpec.parse(forget_class or default_spec(data), data.groups.names, allow_empty=False)
    population = {name: fields[name] for name in ("scope", "runs", "held_out_pairs")} | {"train_steps": fields["target_steps"]}
    hypernet = {"variant": fields["variant"], "space": fields["space"], "train_steps": fields["hypernet_steps"]}
    recipe = find_recipe(dataset, architecture, data.groups.are_classes).given(population, hypernet, seed)
    main = Main(recipe, data, data_dir, spec, gates, output, seed, device, engine, retrained)
    options.print_configuration(**main.inputs) if dry_run else main.run()


def default_spec(data: Dataset) -> str:
    """The forget spec for who names none.

    Raises:
        BadRequest: data whose groups are not known beforehand: what is forgotten must be asked for.
    """
    if data.name != "digits" or not data.groups.are_classes:
        names = ", ".join(data.groups.names)
        raise BadRequest(f"forget_class must say what {data.name} is to forget; allowed: {names}, several joined by commas")
    return "7"


if __name__ == "__main__":
    command()
