"""Kills, crowds and stores that go away: what is left of `forget` after each.

    python -m benchmarks.faults              # about half an hour on two cores

A small `main` fills a store; then `forget` is killed (SIGKILL) at random moments, then eight run at once, then its tracking
server is stopped in the middle and started again. After every fault each alias must be on a version that is whole and whose
file is the one that was audited, and every version that a command said it has registered must be there. What is left besides is
counted, then mended by `doctor`, and counted again. `hit at work` says how many of the faults did find a command at work.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import mlflow
import pandas as pd

from benchmarks import write_table
from benchmarks.servers import tracking_server
from hf_mlops.base.progress import Progress
from hf_mlops.registry.models import classifier_of
from hf_mlops.registry.names import HYPERFORGET, WHOLE
from hf_mlops.steps.doctor import findings

ROOT = Path(__file__).parent.parent
SMALL = {"runs": 384, "target-steps": 250, "hypernet-steps": 700, "max-retain-gap": 0.06, "max-forget-gap": 0.05}
GATES = ["--max-retain-gap", "0.5", "--max-forget-gap", "0.5"]
REGISTERED = re.compile(r"^registered  (\S+) version (\d+)", re.MULTILINE)


class Commands:
    """Commands on a store in a folder, and what they said they have registered."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.acknowledged = folder, set[tuple[str, str]]()
        self.environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def start(self, entry_point: str, *words: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-W", "ignore", "-m", f"projects.{entry_point}", *words]
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(line, cwd=self.folder, env=self.environment, text=True, **quiet)

    def forget(self, group: int) -> subprocess.Popen[str]:
        return self.start("forget", "--forget-class", str(group), "--force", "yes", *GATES)

    def end(self, process: subprocess.Popen[str]) -> int:
        """Waits for a command, and takes it at its word."""
        output, _ = process.communicate()
        self.acknowledged |= set(REGISTERED.findall(output))
        return process.returncode


def state(acknowledged: set[tuple[str, str]]) -> dict[str, int]:
    """What is wrong in the registry that the tracking URI names."""
    client = mlflow.MlflowClient()
    models = client.search_registered_models(f"name LIKE '{HYPERFORGET}%'")
    versions = {(m.name, str(v.version)): v for m in models for v in client.search_model_versions(f"name = '{m.name}'")}
    aliased = {(model.name, str(version)) for model in models for version in model.aliases.values()}
    wrong = 0
    for one in aliased:
        try:
            if one[0].startswith("hyperforget-classifier"):
                classifier_of(versions[one])
            wrong += versions[one].tags[WHOLE] != "true"
        except (KeyError, ValueError):
            wrong += 1
    return {
        "aliases on a version that is not whole": wrong,
        "lost versions": len(acknowledged - versions.keys()),
        "half-registered": sum(version.tags.get(WHOLE) != "true" for version in versions.values()),
        "runs for ever running": sum(
            run.info.status == "RUNNING" for run in mlflow.search_runs(search_all_experiments=True, output_format="list")
        ),
    }


def killed(commands: Commands, kills: int, chance: random.Random) -> pd.Series:
    """Kills `forget` at random moments of its life."""
    started = time.monotonic()
    commands.end(commands.forget(7))
    life, total, hit = time.monotonic() - started, pd.Series(dtype=float), 0
    with Progress("kills", kills, "kill") as progress:
        for number in range(kills):
            process = commands.forget(number % 10)
            time.sleep(chance.uniform(0.3, 1.05) * life)  # before that it has only imported
            process.kill()
            hit += commands.end(process) == -signal.SIGKILL
            total = total.combine(pd.Series(state(commands.acknowledged)), max, fill_value=0)
            progress.advance()
    return pd.concat([pd.Series({"hit at work": hit}), total])


def crowd(commands: Commands, size: int) -> pd.Series:
    """Runs `forget` many times at once, two for each group."""
    processes = [commands.forget(number // 2) for number in range(size)]
    failed = sum(commands.end(process) != 0 for process in processes)
    return pd.Series({**state(commands.acknowledged), "failed": failed})


def stopped(folder: Path, stops: int, chance: random.Random) -> pd.Series:
    """Kills the tracking server in the middle of `forget`, starts it again, and asks again."""
    running = tracking_server(folder).wait()
    commands = Commands(folder, f"http://{running.address}")
    mlflow.set_tracking_uri(f"http://{running.address}")
    total, seconds, hit, again = pd.Series(dtype=float), [], 0, 0
    started = time.monotonic()
    commands.end(commands.forget(7))
    life = time.monotonic() - started
    for number in range(stops):
        process = commands.forget(number)
        time.sleep(chance.uniform(0.3, 1) * life)
        running.kill()
        gone = time.monotonic()
        if commands.end(process):
            hit += 1
            seconds.append(time.monotonic() - gone)
        running = tracking_server(folder, port=running.port).wait()
        again += commands.end(commands.forget(number)) != 0
        total = total.combine(pd.Series(state(commands.acknowledged)), max, fill_value=0)
    gave_up = {"failed": again, "seconds to give up, at most": max(seconds, default=float("nan"))}
    result = pd.concat([pd.Series({"hit at work": hit, **gave_up}), total, mended(commands)])
    running.kill()
    return result


def mended(commands: Commands) -> pd.Series:
    """What is left after `doctor --mend yes`."""
    for finding in findings():
        finding.mend()
    return pd.Series(state(commands.acknowledged)).add_prefix("after doctor: ")


@click.command(help=__doc__)
@click.option("--kills", default=50, show_default=True)
@click.option("--crowd", "size", default=8, show_default=True)
@click.option("--stops", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
def command(kills: int, size: int, stops: int, seed: int) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        commands = Commands(folder, f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(commands.environment["MLFLOW_TRACKING_URI"])
        if commands.end(commands.start("main", *(f"--{key}={value}" for key, value in SMALL.items()))):
            raise click.ClickException("main failed")
        rows = {
            f"{kills} kills": pd.concat([killed(commands, kills, chance), mended(commands)]),
            f"{size} at once": pd.concat([crowd(commands, size), mended(commands)]),
            f"{stops} times without its server": stopped(folder, stops, chance),
        }
        left = [str(path) for path in folder.rglob("*.partial")]
    write_table("faults", pd.DataFrame(rows).T.reset_index(names="fault").assign(**{"partial files": len(left)}))


if __name__ == "__main__":
    command()
