"""Entry point `doctor`: lists what killed processes have left in the store and on this machine, and mends it if asked to."""

from __future__ import annotations

import click

from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.steps.doctor import findings
from projects.command import entry_point


@click.command(help=__doc__)
@entry_point
@click.option("--mend", type=click.Choice(["no", "yes"]), default="no", show_default=True, help="Take away what was found.")
def command(mend: str) -> None:
    found = findings()
    for finding in found:
        if mend == "yes":
            finding.mend()
        print(f"{'mended' if mend == 'yes' else 'found'}: {finding.what}")
    if found and mend == "no":
        raise DamagedArtifact(f"{len(found)} to mend: the same with --mend yes, or -P mend=yes")
    print("all is well")


if __name__ == "__main__":
    command()
