"""Small requests to a served hypernetwork while another client sends the heaviest that is allowed, one after another.

    mlflow run . --env-manager local        # or any store with a champion
    python -m benchmarks.beside             # five minutes on two cores

A small request is of one spec and one sample. It is timed alone and beside each heavy one in turn, several times over, so that
what else the machine does meets both. Heavy ones are of as many denoising steps as are allowed (`hf_mlops.registry.request`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
import pandas as pd
import requests

from benchmarks import write_table
from benchmarks.servers import Server, model_server
from hf_mlops.registry.request import MAX_STEPS

SMALL = {"inputs": ["7"]}
HEAVY = {  # by what there is much of
    "samples": {"inputs": [""], "params": {"n_samples": MAX_STEPS // 2, "steps": 2}},
    "finished samples": {"inputs": [""], "params": {"n_samples": MAX_STEPS // 2, "steps": 2, "output": "onnx"}},
    "rows": {"inputs": [""] * MAX_STEPS, "params": {"steps": 1}},
    "steps": {"inputs": [""] * (MAX_STEPS // 1000), "params": {"steps": 1000}},
}
LOOP = """
import requests, sys
while True:
    answer = requests.post(sys.argv[1], data=sys.argv[2], headers={"Content-Type": "application/json"}, timeout=600)
    print(answer.status_code, flush=True)
"""


@contextmanager
def client(url: str, body: dict[str, Any] | None) -> Iterator[list[int]]:
    """A process that sends a request again and again, from when its first is answered; in the end the statuses of all."""
    statuses: list[int] = []
    if body is None:
        yield statuses
        return
    command = [sys.executable, "-c", LOOP, url, json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            statuses.append(int(process.stdout.readline()))
            yield statuses
        finally:
            process.kill()
            statuses.extend(int(line) for line in process.stdout.read().splitlines())


def timed(url: str, calls: int) -> tuple[list[float], list[int]]:
    """Seconds and statuses of small requests, one after another."""
    seconds, statuses = [], []
    for _ in range(calls):
        started = time.perf_counter()
        statuses.append(requests.post(url, json=SMALL, timeout=600).status_code)
        seconds.append(time.perf_counter() - started)
    return seconds, statuses


def measured(server: Server, turns: int, calls: int) -> list[dict[str, Any]]:
    """A row for each heavy request, and one for none."""
    url = f"http://{server.address}/invocations"
    timed(url, calls)
    kinds: dict[str, dict[str, Any] | None] = {"none": None, **HEAVY}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers: dict[str, list[int]] = {kind: [] for kind in kinds}
    heavy = dict.fromkeys(kinds, 0)
    for _ in range(turns):
        for kind, body in kinds.items():
            with client(url, body) as statuses:
                some, own = timed(url, calls)
            seconds[kind] += some
            answers[kind] += own + statuses
            heavy[kind] += len(statuses)
    alone = 1e3 * np.percentile(seconds["none"], 99)
    return [
        {
            "beside": kind,
            "median (ms)": 1e3 * np.median(some),
            "p99 (ms)": 1e3 * np.percentile(some, 99),
            "p99, over p99 alone": 1e3 * np.percentile(some, 99) / alone,
            "small": len(some),
            "heavy": heavy[kind],
            "5xx": sum(status >= 500 for status in answers[kind]),
        }
        for kind, some in seconds.items()
    ]


@click.command(help=__doc__)
@click.option("--model", default="models:/hyperforget@champion", show_default=True, help="What to serve.")
@click.option("--turns", default=5, show_default=True, help="How often each is measured.")
@click.option("--calls", default=100, show_default=True, help="Small requests of a turn.")
def command(model: str, turns: int, calls: int) -> None:
    with model_server(model) as server:
        write_table("beside", pd.DataFrame(measured(server, turns, calls)))


if __name__ == "__main__":
    command()
