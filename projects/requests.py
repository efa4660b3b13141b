"""Entry point `requests`: prints the request log, a row for each request to forget, and writes it as CSV."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from hf_mlops.base.artifact import whole_file
from hf_mlops.registry.request_log import request_log
from hf_mlops.report.spreadsheet import harmless
from projects import options
from projects.command import entry_point

PRINTED = ["asked", "seconds", "requester", "forget", "outcome", "version", "reason"]  # columns
WIDEST = 60  # characters of one of them


@click.command(help=__doc__)
@entry_point
@click.option(
    "--since",
    type=options.OrEmpty(click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])),
    default="",
    metavar="DATE",
    help="The first day, or second, of those that are wanted, in UTC: 2026-01-31 or 2026-01-31T16:30:00.",
)
@click.option("--output", default="", metavar="FILE", help="CSV file to write the log to, with further columns.")
def command(since: datetime | None, output: str) -> None:
    log = request_log(since.replace(tzinfo=timezone.utc) if since else None)
    if output:
        whole_file(Path(output), harmless(log))
    table = log[PRINTED].to_string(index=False, max_colwidth=WIDEST, na_rep="", float_format="%.1f")
    print(table if len(log) else "no requests")


if __name__ == "__main__":
    command()
