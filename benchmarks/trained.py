"""The population and the hypernetwork that a benchmark measures: trained by their recipe, kept for the next benchmark."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hf_mlops import Dataset, Hypernetwork, Population, Reference, load_dataset, train_hypernetwork, train_population
from hf_mlops.data.poison import GROUP
from hf_mlops.hypernet.recipes import RECIPES, find_recipe, recipe_for_poison

KEPT = Path(__file__).parent / "kept"
DATASETS = sorted({name for name, _ in RECIPES})


@dataclass(frozen=True)
class Trained:
    """What was trained, and in how many seconds of wall time."""

    name: str
    dataset: Dataset
    population: Population
    hypernetwork: Hypernetwork
    reference: Reference
    seconds: dict[str, float]


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that decide what is trained."""
    architectures = sorted({architecture for _, architecture in RECIPES})
    for option in (
        click.option("--dataset", type=click.Choice(DATASETS), default="digits", show_default=True),
        click.option("--architecture", type=click.Choice(architectures), help="By default the data set's first recipe."),
        click.option("--groups", default="", help="How training images are grouped: as for `load_dataset`."),
        click.option("--data-dir", default="", help="Folder with the data set's files; by default they are downloaded."),
        click.option("--device", default="auto", show_default=True),
        click.option("--seed", default=0, show_default=True),
        click.option("--product", is_flag=True, help="Without pairs that no run forgets together, as in production."),
        click.option("--afresh", is_flag=True, help="Train again what an earlier benchmark has left."),
    ):
        command = option(command)
    return command


def trained(
    dataset: str,
    architecture: str | None,
    groups: str,
    data_dir: str,
    device: str,
    seed: int,
    product: bool,
    afresh: bool,
    runs: int | None = None,
    hypernet_steps: int | None = None,
    variant: str | None = None,
) -> Trained:
    """Trains by the recipe, but for what is given instead, or loads what was trained in the same way before.

    Where poison is the one thing to forget it is by few runs and steps.
    """
    data, network = load_dataset(dataset, data_dir, groups), architecture or ""
    poison = groups.startswith(f"{GROUP}:")
    recipe = recipe_for_poison(dataset, network) if poison else find_recipe(dataset, network, data.groups.are_classes)
    recipe = recipe.given(
        {"held_out_pairs": 0.0 if product else None, "runs": runs}, {"train_steps": hypernet_steps, "variant": variant}, seed
    )
    parts = [dataset, recipe.population.architecture, re.sub("[^a-z0-9.]+", "-", groups.lower()), variant, "product" * product]
    name = "-".join(part for part in [*parts, f"seed-{seed}" * bool(seed)] if part)
    folder = KEPT / name
    seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text()) if (folder / "seconds.json").exists() else {}

    def made(part: str, kind: type[Any], config: Any, train: Callable[[], Any], **load: Any) -> Any:
        """What was kept, if it was trained by the same configuration; or else what `train` gives, which is kept."""
        if part in seconds and not afresh:
            kept = kind.load(folder / part, **load)
            if kept.config == config:
                return kept
        started = time.monotonic()
        result = train()
        seconds.pop("hypernetwork", None)  # of an earlier population
        seconds[part] = time.monotonic() - started
        result.save(folder / part)
        (folder / "seconds.json").write_text(json.dumps(seconds))
        return result

    population = made("population", Population, recipe.population, lambda: train_population(recipe.population, data, device))
    hypernetwork = made(
        "hypernetwork",
        Hypernetwork,
        recipe.hypernet,
        lambda: train_hypernetwork(recipe.hypernet, population, data, device),
        device=device,
    )
    return Trained(name, data, population, hypernetwork, Reference.of(population, data), seconds)
