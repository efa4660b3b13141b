"""Options that entry points share which train: what they are checked against needs torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from hf_mlops.compute.device import DEVICES
from hf_mlops.hypernet.spaces import SPACES
from hf_mlops.population.config import PopulationConfig
from hf_mlops.population.executor import ENGINES, Engine
from hf_mlops.population.networks import ALLOWED as NETWORKS
from hf_mlops.serving.signal import VARIANTS
from projects.options import AT_LEAST_1, field, in_full, recipe_field

architecture = click.option(
    "--architecture", default="", metavar="NAME", help=f"Target network: {NETWORKS}. [default: the data set's recipe]"
)
scope = field(
    PopulationConfig,
    "scope",
    click.STRING,
    "Parameters that are generated: patterns over their names, joined by commas; the others stay as initialised.",
    metavar="PATTERNS",
)
runs = recipe_field("runs", AT_LEAST_1, "Targets that the hypernetwork learns from.")
held_out_pairs = recipe_field(
    "held_out_pairs",
    click.FloatRange(0, 0.5),
    "Share of the pairs of groups that no training run forgets together, to show how such sets fare; 0 for production.",
)
variant = recipe_field("variant", click.Choice(VARIANTS), "What the hypernetwork is conditioned on.")
space = recipe_field("space", click.Choice(list(SPACES)), "Coordinates that diffusion runs in.")
device = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute; auto: a GPU if any."
)
engine_name = field(
    Engine, "name", click.Choice(ENGINES), "Where targets are trained: in this process, or on Ray.", flag="engine"
)
ray_address = click.option(
    "--ray-address", default="", metavar="HOST:PORT", help="Of a Ray cluster; by default one of this machine alone is started."
)
store_option = click.option(
    "--store",
    default="",
    metavar="FOLDER",
    help="Where trained targets are left chunk by chunk, to go on from after an interruption; by default they are not kept."
    " On a Ray cluster of several machines, a folder that all of them see.",
)


def engines(command: Callable[..., Any]) -> Callable[..., Any]:
    """The three options that say where targets are trained, as one argument `engine`."""

    @wraps(command)
    def combined(engine: str, ray_address: str, store: str, **others: Any) -> Any:
        return command(engine=Engine(engine, ray_address, in_full(store)), **others)

    return engine_name(ray_address(store_option(combined)))
