"""Wall time and memory of `main` from an empty store, and of `forget` after it, through `mlflow run`.

    python -m benchmarks.walls              # about 5 minutes on two cores

Peak memory is that of the largest single process.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pandas as pd

from benchmarks import write_table

ROOT = Path(__file__).parent.parent


@click.command(help=__doc__)
@click.option("--forgets", default=3, show_default=True, help="How often to run `forget`; the median counts.")
def command(forgets: int) -> None:
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}

        def run(*words: str) -> tuple[float, str]:
            started = time.monotonic()
            line = ["mlflow", "run", str(ROOT), "--env-manager", "local", *words]
            done = subprocess.run(line, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
            print(done.stdout)
            return time.monotonic() - started, done.stdout

        main, _ = run("-P", f"output={folder}/exported")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        runs = [run("-e", "forget", "-P", f"forget_class={group}") for group in range(forgets)]
        own = [float(re.search(r"took +([\d.]+) s", output)[1]) for _, output in runs]
    median = pd.DataFrame({"wall": [wall for wall, _ in runs], "own": own}).median()
    row = {
        "main wall (s)": main,
        "main peak memory (GB)": peak,
        "forget wall (s)": median["wall"],
        "forget after imports (s)": median["own"],
    }
    write_table("walls", pd.DataFrame([row]))


if __name__ == "__main__":
    command()
