"""Entry point `withdraw`: takes a registered version out of service for good, with a reason; its record stays."""

from __future__ import annotations

import click

from hf_mlops.registry.names import SERVED, WHY, WITHDRAWN
from hf_mlops.registry.versions import find_version, name_of
from hf_mlops.registry.withdrawal import sampled_from, withdraw
from projects.command import entry_point


@click.command(help=__doc__)
@entry_point
@click.option("--version", default="", metavar="NAME/NUMBER", help="What to withdraw: hyperforget-classifier/3, hyperforget/2.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
def command(version: str, reason: str) -> None:
    found = find_version(version)
    before = found.tags.get(WITHDRAWN)
    for one in withdraw(found, reason):
        again = "already " if name_of(one) == name_of(found) and before else ""
        aliases = one.tags[SERVED] or "no alias"
        print(f"{again}withdrawn   {name_of(one)}, which had {aliases}, at {one.tags[WITHDRAWN]}: {one.tags[WHY]}")
    print("its files are deleted from the store, its record stays; files that were exported and servers at work still have it")
    for one in sampled_from(found):
        print(f"not withdrawn: {name_of(one)}, which was sampled from it")


if __name__ == "__main__":
    command()
