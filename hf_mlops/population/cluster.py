"""Tasks on a Ray cluster. What they make they leave in a folder; only that they are done comes back."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hf_mlops.base.errors import BadRequest, OutOfReach
from hf_mlops.base.source import source_digest

Item = TypeVar("Item")

RETRIES = 5  # of a task whose worker has died
ANSWER_SECONDS = 10.0  # that a cluster has to take a connection
WORKER_SECONDS = 120.0  # that a worker of each machine has to start and to say what it is


def run_on_ray(
    task: Callable[[Item], object], items: Sequence[Item], threads: int, device: str, folder: Path, address: str = ""
) -> Iterator[Item]:
    """Runs a task on every item, as many at once as the cluster has room for; gives each item when it is done.

    Args:
        task: what it makes it leaves in `folder`. A task whose worker dies is begun again.
        threads: processors that a task takes; device: `cuda` if each also takes a GPU.
        folder: one that all machines of the cluster see.
        address: HOST:PORT of a cluster; empty: one of this machine alone, which ends with the work.

    Raises:
        BadRequest: a cluster that does not answer, has no room for a task, or whose workers have another version of this
            package or of torch, or do not see the folder; all before the first task. And what a task raises.
        OutOfReach: a task whose workers have died again and again, or a cluster that is lost.
    """
    with _connected(address):
        gpus = 1 if device == "cuda" else 0
        _require_room(threads, gpus)
        _require_alike(folder)
        shared = ray.put(task)
        remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)(_call)
        pending = {remote.remote(shared, item): item for item in items}
        try:
            while pending:
                for done in ray.wait(list(pending), timeout=1)[0]:
                    item = pending.pop(done)
                    ray.get(done)
                    yield item
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise OutOfReach(f"the Ray cluster gave up: {error}") from error
        finally:
            for unfinished in pending:  # none that has ended: cancelled by force at that moment, Ray (2.60) ends this process
                ray.cancel(unfinished, force=True)


def _call(task: Callable[[Item], object], item: Item) -> None:
    task(item)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connected to a cluster; one that was before stays so."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning on every machine without a GPU
    logging.getLogger("ray").setLevel(logging.ERROR)
    where: dict[str, Any] = {"address": address}
    if address:
        _require_answer(address)
    else:  # it listens on all of the machine's addresses, to whoever has its token
        where = {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:  # of a cluster of another Ray or Python, say
        raise BadRequest(
            f"the Ray cluster at {address or 'this machine'} cannot be used: {str(error).splitlines()[0]}"
            " (one that asks for a token takes it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or ~/.ray/auth_token)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Asks by itself, since Ray tries for minutes and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadRequest(
            f"ray_address = {address!r} is not allowed; allowed: HOST:PORT, or nothing for a cluster of this machine"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise OutOfReach(f"no Ray cluster answers at {address} ({error}): start one with `ray start --head`") from error


def _require_room(threads: int, gpus: int) -> None:
    most = {name: max(node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"]) for name in ("CPU", "GPU")}
    if most["CPU"] < threads or most["GPU"] < gpus:
        raise BadRequest(
            f"a task takes {threads} processors and {gpus} GPUs; allowed: up to {most['CPU']:.0f} and {most['GPU']:.0f},"
            " which is what the largest machine of the Ray cluster has"
        )


def _require_alike(folder: Path) -> None:
    """Asks a worker of each machine for its versions, and whether it sees a file that this process writes into the folder."""
    mine = {"hf_mlops": source_digest(), "torch": torch.__version__}
    seen = folder / f"seen-{uuid4().hex}"
    seen.touch()

    def describe() -> dict[str, str]:  # a function of a function: it goes to the worker as code, whatever is installed there
        from importlib import import_module

        found = {}
        for package, module, value in (
            ("hf_mlops", "hf_mlops.base.source", "source_digest"),
            ("torch", "torch", "__version__"),
        ):
            try:
                found[package] = getattr(import_module(module), value)
            except Exception as error:  # it need not be what this process has
                found[package] = f"not there ({error!r})"
        described = {package: str(value() if callable(value) else value) for package, value in found.items()}
        return {**described, "folder": str(seen.exists())}

    try:
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU"):
                pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy=pinned)(describe).remote()
                found = ray.get(asked, timeout=WORKER_SECONDS)
                where = f"the Ray worker on {node['NodeManagerAddress']}"
                for package, version in mine.items():
                    if found[package] != version:
                        raise BadRequest(f"{where} has {package} {found[package]}; allowed: {version}, as here")
                if found["folder"] != "True":
                    raise BadRequest(f"{where} does not see {folder}; allowed: a store that all machines of the cluster share")
    except ray.exceptions.RayError as error:
        raise OutOfReach(f"the workers of the Ray cluster do not start: {error}") from error
    finally:
        seen.unlink()
