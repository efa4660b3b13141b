"""Options that several entry points share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hf_mlops.audit import Gates
from hf_mlops.data import DATASETS
from hf_mlops.device import DEVICES
from hf_mlops.hypernetwork import DEFAULT_STEPS, MAX_SAMPLES, HypernetConfig
from hf_mlops.population import PopulationConfig
from hf_mlops.prompt import VARIANTS
from hf_mlops.targets import ARCHITECTURES
from hf_mlops.weightspace import SPACES

AT_LEAST_1 = click.IntRange(min=1)


def field(config: Any, name: str, kind: click.ParamType, text: str, flag: str = "") -> Any:
    """The option for a field of a configuration, with its default; called like the field unless `flag` names it."""
    flag = flag or name.replace("_", "-")
    return click.option(f"--{flag}", type=kind, default=getattr(config, name), show_default=True, help=text)


dataset = click.option("--dataset", type=click.Choice(list(DATASETS)), default="digits", show_default=True, help="Data set.")
architecture = field(PopulationConfig, "architecture", click.Choice(list(ARCHITECTURES)), "Target network.")
runs = field(PopulationConfig, "runs", AT_LEAST_1, "Targets that the hypernetwork learns from.")
variant = field(HypernetConfig, "variant", click.Choice(VARIANTS), "What the hypernetwork is conditioned on.")
space = field(HypernetConfig, "space", click.Choice(list(SPACES)), "Coordinates that diffusion runs in.")
device = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute; auto: a GPU if any."
)
seed = field(PopulationConfig, "seed", click.IntRange(min=0), "Seed of all that is random.")
denoising_steps = click.option(
    "--steps", type=click.IntRange(1, 1000), default=DEFAULT_STEPS, show_default=True, help="Denoising steps a sample."
)
output = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("exported"),
    show_default=True,
    help="Folder that the exported classifier is written to.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")


def gates(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that bound what may be registered."""
    share = click.FloatRange(0, 1)
    command = field(Gates, "max_retain_gap", share, "Largest accuracy lost on the retain set against the retrain reference.")(
        command
    )
    return field(Gates, "max_forget_accuracy", share, "Largest accuracy on the forget set.")(command)


def samples(default: int) -> Any:
    """The option for how many samples to draw."""
    return click.option(
        "--n-samples",
        type=click.IntRange(1, MAX_SAMPLES),
        default=default,
        show_default=True,
        help="Samples of each forget spec.",
    )


def print_configuration(**parts: Any) -> None:
    """What `--dry-run` prints: JSON."""
    click.echo(json.dumps(parts, indent=2))
