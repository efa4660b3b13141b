"""Entry point `export`: takes a registered classifier out of the registry as verified files, ready to deploy."""

from __future__ import annotations

from pathlib import Path

import click

from hf_mlops.registry.models import find_classifier
from hf_mlops.registry.permissions import EDIT, READ
from hf_mlops.steps.export import Export
from projects import options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=EDIT, classifiers=READ)
@options.forget("Forget spec whose classifier to take out.")
@options.model
@options.output
@options.dry_run
def command(forget_class: str, model: str, output: Path, dry_run: bool) -> None:
    if dry_run:
        return options.print_configuration(forget_class=forget_class, model=model, output=str(output))
    Export(find_classifier(forget_class, model), output).run()


if __name__ == "__main__":
    command()
