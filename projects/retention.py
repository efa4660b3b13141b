"""Entry point `retention`: lists what is older than its kind is kept, and deletes it from the store if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from hf_mlops.steps.retention import KINDS, Retention, seconds_of, summary, to_empty_the_trash
from projects.command import entry_point


def ages(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each kind of what may be deleted: how long it is kept."""
    for kind, (default, text) in reversed(KINDS.items()):
        command = click.option(f"--{kind}", default=default, show_default=True, metavar="AGE", help=text)(command)
    return command


@click.command(help=__doc__)
@entry_point
@ages
@click.option("--delete", type=click.Choice(["no", "yes"]), default="no", show_default=True, help="Delete what was found.")
def command(delete: str, **kept: str) -> None:
    retention = Retention({kind: seconds_of(kind, age) for kind, age in kept.items()}, time.time())
    found, done = retention.expendable(), []
    try:
        for one in found:
            if delete == "yes":
                one.mend()
                done.append(one)
            print(f"{'deleted' if delete == 'yes' else 'may go'}: {one.what} ({one.size / 1e6:.1f} MB)")
    finally:
        print(f"\n{summary(done if delete == 'yes' else found, kept).to_string(index=False, float_format='%.1f')}")
    if found and delete == "no":
        print("nothing was deleted; to delete it: the same with --delete yes, or -P delete=yes")
    if rows := to_empty_the_trash():
        print(rows)


if __name__ == "__main__":
    command()
