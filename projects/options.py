"""Options that several entry points share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from hf_mlops.audit import Gates
from hf_mlops.data import DATASETS
from hf_mlops.device import DEVICES
from hf_mlops.hypernetwork import DEFAULT_STEPS, MAX_SAMPLES

dataset = click.option("--dataset", type=click.Choice(list(DATASETS)), default="digits", show_default=True, help="Data set.")
device = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute; auto: a GPU if any."
)
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all that is random.")
denoising_steps = click.option(
    "--steps", type=click.IntRange(1, 1000), default=DEFAULT_STEPS, show_default=True, help="Denoising steps a sample."
)
dry_run = click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")


def gates(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that bound what may be registered."""
    for name, field, text in (
        ("--max-retain-gap", "max_retain_gap", "Largest accuracy on the retain set lost against the retrain reference."),
        ("--max-forget-accuracy", "max_forget_accuracy", "Largest accuracy on the forget set."),
    ):
        command = click.option(name, type=click.FloatRange(0, 1), default=getattr(Gates, field), show_default=True, help=text)(
            command
        )
    return command


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
