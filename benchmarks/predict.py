"""How long does `predict` take, and what does it keep? Of a registered hypernetwork, in a process without torch.

    python -m benchmarks.predict --dataset digits
    python -m benchmarks.predict --dataset mnist --architecture mlp-32

Milliseconds of calls one after another, median and 99th percentile; beside them those of a product of two 512 x 512 matrices of
float32, by which machines and days compare. Loading is timed in two processes: MLflow holds a model's requirements against all
installed packages first, which takes as long as there are many, unless told `suppress_warnings=True`. Memory is the resident
one after so many calls over that after the first hundred.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import mlflow
import pandas as pd

from benchmarks import write_table
from benchmarks.trained import options, trained
from hf_mlops.export.hypernetwork import to_onnx_hypernetwork
from hf_mlops.registry.hypernetworks import as_pyfunc
from hf_mlops.registry.sealed import save

LOADING = """
import json, os, sys, tempfile, time
sys.modules["torch"] = None  # importing it is an error
import mlflow.pyfunc, numpy, pandas, psutil
folder, suppress_warnings, *asked = json.loads(sys.argv[1])
tempfile.tempdir = tempfile.mkdtemp()
started = time.perf_counter()
model = mlflow.pyfunc.load_model(folder, suppress_warnings=suppress_warnings)
found = {"load (s)": time.perf_counter() - started}
"""

MEASURING = """
groups, calls, many = asked

def timed(work, times):
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return [1e3 * numpy.median(seconds), 1e3 * numpy.percentile(seconds, 99)]

square = numpy.random.default_rng(0).random((512, 512), numpy.float32)
one, ten = (pandas.DataFrame({"forget": groups[:count]}) for count in (1, 10))
memory = lambda: psutil.Process().memory_info().rss
for _ in range(100):
    model.predict(one)
def note(name, work, times):
    found[f"{name} (ms)"], found[f"{name}, p99 (ms)"] = timed(work, times)
note("512 x 512 product", lambda: square @ square, 200)
note("one spec", lambda: model.predict(one), 500)
note("one spec, finished", lambda: model.predict(one, params={"output": "onnx"}), 500)
note("ten specs", lambda: model.predict(ten), 200)
note(f"{many} samples", lambda: model.predict(one, params={"n_samples": many}), 5)
found["samples a second"] = 1e3 * many / found[f"{many} samples (ms)"]
del model
import gc; gc.collect()
model = mlflow.pyfunc.load_model(folder)
for _ in range(100):
    model.predict(one)
before = memory()
for _ in range(calls):
    model.predict(one)
found[f"memory after {calls} calls"] = memory() / before
found["left in the temporary folder (bytes)"] = sum(
    os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(tempfile.tempdir) for name in names
)
"""


@click.command(help=__doc__)
@options
@click.option("--runs", type=int, help="Of the population; by default the recipe's.")
@click.option("--hypernet-steps", type=int, help="Likewise; it changes nothing of what is measured.")
@click.option("--calls", default=10_000, show_default=True, help="After which memory is looked at.")
@click.option("--many", default=1000, show_default=True, help="Samples in one call; what a request may ask for bounds it.")
def command(calls: int, many: int, **choice: Any) -> None:
    made = trained(**choice)
    with TemporaryDirectory() as folder:
        files, model = Path(folder) / "files", Path(folder) / "model"
        files.mkdir()
        to_onnx_hypernetwork(made.hypernetwork, made.dataset.class_names).save(files)
        names = made.hypernetwork.groups.names
        save(model, mlflow.pyfunc.save_model, **as_pyfunc(files, names))
        unchecked = in_a_process(LOADING, str(model), True)["load (s)"]
        found = in_a_process(LOADING + MEASURING, str(model), False, [*names * 10][:10], calls, many)
    write_table(f"predict-{made.name}", pd.DataFrame([{"load, requirements unchecked (s)": unchecked, **found}]))


def in_a_process(code: str, *asked: object) -> dict[str, float]:
    """What code has put into `found`, in a process of its own."""
    command = [sys.executable, "-c", f"{code}print(json.dumps(found))", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


if __name__ == "__main__":
    command()
