"""Seconds and memory of the heaviest requests that a served hypernetwork allows, by their shape.

    mlflow run . --env-manager local        # or any store with a champion
    python -m benchmarks.requests           # about a minute on two cores

Serves the model with `mlflow models serve` and sends it, one after another, requests of as many denoising steps as are allowed
(`hf_mlops.registry.request`): of one row and many samples, of many rows, of many steps, and one that is refused. Seconds are
those of a client, base64 and JSON included. Memory is the largest that the server's process had during a request, less what it
had before the first one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pandas as pd
import psutil
import requests

from benchmarks import write_table
from benchmarks.servers import answering, model_server
from hf_mlops.registry.request import MAX_STEPS


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Its largest resident memory so far, bytes, looked at every five milliseconds."""
    peak, over = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


@click.command(help=__doc__)
@click.option("--model", default="models:/hyperforget@champion", show_default=True, help="What to serve.")
def command(model: str) -> None:
    shapes = [
        (1, MAX_STEPS // 2, 2),
        (1, MAX_STEPS, 1),
        (MAX_STEPS // 2, 1, 2),
        (MAX_STEPS, 1, 1),
        (MAX_STEPS // 1000, 1, 1000),
        (1, MAX_STEPS + 1, 1),
    ]
    measured = []
    with model_server(model) as server:
        process = answering(server)
        idle = process.memory_info().rss
        for rows, n_samples, steps in shapes:
            params = {"n_samples": n_samples, "steps": steps}
            body = {"dataframe_split": {"columns": ["forget"], "data": [[""]] * rows}, "params": params}
            with peak_of(process) as peak:
                started = time.monotonic()
                answer = requests.post(f"http://{server.address}/invocations", json=body, timeout=600)
                seconds = time.monotonic() - started
            measured.append(
                {
                    "rows": rows,
                    **params,
                    "status": answer.status_code,
                    "seconds": seconds,
                    "memory over idle (MB)": (peak[0] - idle) / 1e6,
                    "answer (MB)": len(answer.content) / 1e6,
                }
            )
    write_table("requests", pd.DataFrame(measured).assign(**{"idle (MB)": idle / 1e6}))


if __name__ == "__main__":
    command()
