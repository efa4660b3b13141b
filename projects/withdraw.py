"""Entry point `withdraw`: takes a registered version out of service for good, with a reason; its record stays."""

from __future__ import annotations

import click
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.registry.names import EXPORTED, SERVED, WHY, WITHDRAWN
from hf_mlops.registry.storage import files_in, place_of
from hf_mlops.registry.versions import find_version, name_of
from hf_mlops.registry.withdrawal import aliases_of, exports_of, sampled_from, with_it, withdraw
from projects.command import entry_point


@click.command(help=__doc__)
@entry_point
@click.option("--version", default="", metavar="NAME/NUMBER", help="What to withdraw: hyperforget-classifier/3, hyperforget/2.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option(
    "--sampled",
    type=click.Choice(["no", "yes"]),
    default="no",
    show_default=True,
    help="Withdraw the classifiers that were sampled from it as well, with the same reason.",
)
@click.option("--dry-run", is_flag=True, help="List the versions, aliases and files that would go, and stop.")
def command(version: str, reason: str, sampled: str, dry_run: bool) -> None:
    found = find_version(version)
    going = with_it(found, sampled == "yes")
    before = {name_of(one) for one in going if WITHDRAWN in one.tags}
    if dry_run:
        for one in going:
            print(f"{'already withdrawn' if name_of(one) in before else 'would be withdrawn'}   {described(one)}")
        return say_what_stays(going)
    gone = withdraw(found, reason, sampled == "yes")
    for one in gone:
        again = "already " if name_of(one) in before else ""
        aliases = one.tags[SERVED] or "no alias"
        print(f"{again}withdrawn   {name_of(one)}, which had {aliases}, at {one.tags[WITHDRAWN]}: {one.tags[WHY]}")
    print("its files are deleted from the store, its record stays; files that were exported and servers at work still have it")
    say_what_stays(gone)


def described(version: ModelVersion) -> str:
    """A version, with the aliases and files that would go with it."""
    place, exports = place_of(version), [f"{EXPORTED} of the export run {run.info.run_id}" for run in exports_of(version)]
    files = files_in(place)
    size = f"{len(files)} files, {sum(files.values()) / 1e6:.1f} MB, in {place}"
    return f"{name_of(version)} with {', '.join(aliases_of(version)) or 'no alias'}; {', '.join([size, *exports])}"


def say_what_stays(gone: list[ModelVersion]) -> None:
    """Lists the classifiers that were sampled from what goes and do not go with it."""
    names = {name_of(one) for one in gone}
    for one in (made for hypernetwork in gone for made in sampled_from(hypernetwork)):
        if name_of(one) not in names and WITHDRAWN not in one.tags:
            print(f"not withdrawn: {name_of(one)}, which was sampled from it")


if __name__ == "__main__":
    command()
