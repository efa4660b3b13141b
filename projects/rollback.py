"""Entry point `rollback`: moves the alias of a forget spec, or that of the champion, to the version before."""

from __future__ import annotations

import click

from hf_mlops.registry.names import HYPERFORGET
from hf_mlops.registry.permissions import EDIT
from hf_mlops.registry.rollback import roll_back
from projects import options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(model=EDIT)
@click.option("--model", default=HYPERFORGET, show_default=True, metavar="NAME", help="Registered model whose alias moves.")
@options.forget("Forget spec whose classifier is to be that before; by default the champion moves.", required=False)
def command(model: str, forget_class: str) -> None:
    alias, now, version = roll_back(model, forget_class)
    print(f"models:/{model}@{alias} was {f'version {now}' if now else 'on no version'}, and is version {version.version} now")


if __name__ == "__main__":
    command()
