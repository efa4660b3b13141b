"""Options that several entry points share."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import Any

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.data.group_files import is_group_file
from hf_mlops.data.grouping import ALLOWED as GROUPINGS
from hf_mlops.data.loading import ALLOWED, DATA_DIR_VARIABLE, READERS
from hf_mlops.registry.names import HYPERFORGET
from hf_mlops.serving.sampler import DEFAULT_START_TIME, DEFAULT_STEPS, MAX_SAMPLES
from hf_mlops.steps.forget import Sampling
from projects.policy import VARIABLE, within_policy


class Whole(click.IntRange):
    """A whole number, which may be written as `8.0` or `1e3`: MLproject knows only numbers with a fraction."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("nan")
        if not number.is_finite() or number.adjusted() > 30 or number != number.to_integral_value():
            self.fail(f"{value!r} is not allowed; allowed: a whole number", param, ctx)
        return super().convert(int(number), param, ctx)


AT_LEAST_1 = Whole(min=1)


class OrEmpty(click.ParamType):
    """A value of another type, or empty text, which is None: parameters of an MLproject cannot be left out."""

    def __init__(self, kind: click.ParamType):
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value in ("", None) else self.kind.convert(value, param, ctx)


def recipe_field(name: str, kind: click.ParamType, text: str) -> Any:
    """The option for a field of a configuration whose default is in the recipe of the data set and the network."""
    metavar = "|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.split()[0].upper()
    help_text = f"{text} [default: the recipe's]"
    return click.option(f"--{name.replace('_', '-')}", type=OrEmpty(kind), default="", metavar=metavar, help=help_text)


def field(config: Any, name: str, kind: click.ParamType, text: str, flag: str = "", metavar: str | None = None) -> Any:
    """The option for a field of a configuration, with its default; called like the field unless `flag` names it."""
    flag = flag or name.replace("_", "-")
    return click.option(f"--{flag}", type=kind, default=getattr(config, name), show_default=True, metavar=metavar, help=text)


dataset_option = click.option("--dataset", metavar="NAME", default="digits", show_default=True, help=f"Data set: {ALLOWED}.")
groups_option = click.option(
    "--groups",
    metavar="HOW",
    default="",
    help=f"What can be forgotten: {GROUPINGS}. [default: the data's own groups, or classes]",
)
same_groups_option = click.option(
    "--groups", metavar="PATH", default="", help="The file that says which image is in which group, if it has moved since."
)
model = click.option(
    "--model",
    default=HYPERFORGET,
    show_default=True,
    metavar="NAME",
    help="Registered hypernetwork; that of a second data set or network has a name of its own.",
)
same_dataset_option = click.option(
    "--dataset", metavar="NAME", default="", help="The data set that the hypernetwork was trained on, if it has moved since."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="FOLDER",
    default="",
    help=f"Folder with the files of published data sets; by default {DATA_DIR_VARIABLE}, else they are downloaded.",
)
seed = field(Sampling, "seed", Whole(min=0), "Seed of all that is random.")
denoising_steps = click.option(
    "--steps", type=Whole(1, 1000), default=DEFAULT_STEPS, show_default=True, help="Denoising steps a sample."
)
start_option = click.option(
    "--start",
    default="",
    metavar="CLASSIFIER",
    help="Classifier now in production, to stay near: an .onnx or .safetensors file, or models:/NAME@ALIAS.",
)
start_time = click.option(
    "--start-time",
    type=click.FloatRange(0, 1, min_open=True),
    default=DEFAULT_START_TIME,
    show_default=True,
    help="How far to go from it: 1 is not to stay near at all.",
)
_bounded = f"The file that {VARIABLE} names may bound it."
max_forget_gap = field(
    Gates,
    "max_forget_gap",
    click.FloatRange(0, 1),
    f"Largest accuracy on the forget set beyond the retrain reference's. {_bounded}",
)
max_retain_gap = field(
    Gates,
    "max_retain_gap",
    click.FloatRange(0, 1),
    f"Largest accuracy lost on the retain set against the retrain reference. {_bounded}",
)
max_forget_distance = field(
    Gates,
    "max_forget_distance",
    click.FloatRange(0, 1),
    f"How far answers on the forget set may be from retrained ones: 1 is as if nothing was forgotten, and no limit. {_bounded}",
)
output = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("exported"),
    show_default=True,
    help="Folder that the exported classifier is written to.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")


def in_full(path: str) -> str:
    """A path from the root on, whatever directory the command works in; nothing stays nothing."""
    return str(Path(path).absolute()) if path else path


def dataset_in_full(name: str) -> str:
    """The name of a data set, with its path, if it has one, from the root on: it is noted with what is trained on it."""
    prefix = next((prefix for prefix in READERS if name.startswith(prefix) and name != prefix), "")
    return f"{prefix}{in_full(name.removeprefix(prefix))}" if prefix else name


def groups_in_full(groups: str) -> str:
    """How training images are grouped; a file, which poison may be laid on top of, with its path from the root on."""
    base, plus, poison = groups.partition("+")
    return f"{in_full(base)}{plus}{poison}" if is_group_file(base) else groups


def data(command: Callable[..., Any]) -> Callable[..., Any]:
    """The three options that say which data to train on, and what of it can be forgotten."""
    return dataset_option(groups_option(_with_places(command)))


def same_data(command: Callable[..., Any]) -> Callable[..., Any]:
    """The three options that say where the data is that a hypernetwork was trained on."""
    return same_dataset_option(same_groups_option(_with_places(command)))


def images(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options that say which images to train on, where it goes without saying what of them can be forgotten."""
    return dataset_option(_with_places(command))


def _with_places(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--data-dir`, and names of the data set and its groups, if it takes any, that say where they are."""

    @wraps(command)
    def combined(dataset: str, data_dir: str, **others: Any) -> Any:
        if "groups" in others:
            others["groups"] = groups_in_full(others["groups"])
        return command(dataset=dataset_in_full(dataset), data_dir=in_full(data_dir), **others)

    return data_dir_option(combined)


def start(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option for the classifier to stay near, a file or a registered one."""

    @wraps(command)
    def combined(start: str, **others: Any) -> Any:
        return command(start=start if start.startswith("models:/") else in_full(start), **others)

    return start_option(combined)


def gates(command: Callable[..., Any]) -> Callable[..., Any]:
    """The three options that bound what may be registered, as one argument `gates`, which the policy allows."""

    @wraps(command)
    def combined(max_forget_gap: float, max_retain_gap: float, max_forget_distance: float, **others: Any) -> Any:
        return command(gates=within_policy(Gates(max_forget_gap, max_retain_gap, max_forget_distance)), **others)

    return max_forget_gap(max_retain_gap(max_forget_distance(combined)))


def forget(text: str, required: bool = True) -> Any:
    """The option for a forget spec, which has two names; both may be given, since MLproject passes on all of its parameters."""

    def one_of(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> str:
        said = sorted({spec for spec in given if spec.strip()})
        if len(said) > 1:
            both = " and ".join(map(repr, said))
            raise click.UsageError(f"forget_class and its second name, forget, say {both}; allowed: one of them, or the same")
        if required and not said:
            raise click.UsageError("forget_class, or forget, must name what to forget; allowed: groups, joined by commas")
        return said[0] if said else ""

    return click.option("--forget-class", "--forget", "forget_class", multiple=True, callback=one_of, metavar="SPEC", help=text)


def prompted_loss(name: str) -> Any:
    """The option to ask for another loss on D_r or D_f than retrained classifiers have."""
    text = f"Loss asked for on the {name} set; by default as retrained."
    return click.option(f"--{name}-loss", type=OrEmpty(click.FLOAT), default="", metavar="NATS", help=text)


def samples(default: int) -> Any:
    """The option for how many samples to draw."""
    return click.option(
        "--n-samples",
        type=Whole(1, MAX_SAMPLES),
        default=default,
        show_default=True,
        help="Samples of each forget spec.",
    )


retrained = click.option(
    "--retrained",
    type=Whole(min=0),
    default=0,
    show_default=True,
    help="Classifiers to retrain for the very forget spec, to judge beside; 0: those retrained with the population will do,"
    " or 4 for a union of groups that could not be judged otherwise.",
)
force = click.option(
    "--force",
    type=click.Choice(["no", "yes"]),
    default="no",
    show_default=True,
    help="Make a new version where the same request has made one before, which would answer this one, too.",
)

requester = click.option(
    "--requester",
    default="",
    metavar="TEXT",
    help="Who asks, by which ticket perhaps: noted in the request log as given.",
)


def print_configuration(**parts: Any) -> None:
    """What `--dry-run` prints: JSON."""
    click.echo(json.dumps(parts, indent=2))
