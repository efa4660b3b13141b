"""Entry point `promote`: measures the challenger beside the champion, and makes it champion or says why not."""

from __future__ import annotations

from dataclasses import asdict

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.data.tensors import as_tensors
from hf_mlops.registry.models import load_challenger
from hf_mlops.registry.permissions import EDIT, MANAGE
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.promote import Promote, in_office
from projects import options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=EDIT, model=MANAGE)
@options.model
@options.same_data
@options.gates
@options.dry_run
def command(model: str, dataset: str, data_dir: str, groups: str, gates: Gates, dry_run: bool) -> None:
    if dry_run:
        return options.print_configuration(model=model, dataset=dataset, data_dir=data_dir, groups=groups, gates=asdict(gates))
    challenger = load_challenger(model)
    data = as_tensors(trained_on(challenger.onnx.made_from, dataset, data_dir, groups))
    Promote(challenger, in_office(challenger), data, gates).run()


if __name__ == "__main__":
    command()
