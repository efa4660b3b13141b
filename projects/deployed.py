"""Entry point `deployed`: prints what is deployed for which forget spec, from which hypernetwork, and what was withdrawn."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from hf_mlops.base.artifact import whole_file
from hf_mlops.registry.deployed import SERVING, deployed
from hf_mlops.report.spreadsheet import harmless
from projects import options
from projects.command import entry_point


@click.command(help=__doc__)
@entry_point
@click.option(
    "--output",
    type=options.OrEmpty(click.Path(dir_okay=False)),
    default="",
    metavar="FILE",
    help="CSV file to write it to, too.",
)
def command(output: str | None) -> None:
    serving, withdrawn = deployed()
    print(serving[SERVING].to_string(index=False) if len(serving) else "nothing is deployed")
    if len(withdrawn):
        print(f"\nwithdrawn\n{withdrawn.to_string(index=False)}")
    if output:
        whole_file(Path(output), harmless(pd.concat([serving, withdrawn])))
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    command()
