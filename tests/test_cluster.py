"""Chunks on a Ray cluster of two workers: the very population that this process trains, whatever happens to them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "token")  # read once, when Ray is imported

import psutil
import pytest
import ray
import torch
from commands import Store

from hf_mlops import Dataset, Engine, Population, PopulationConfig, retrain, train_population
from hf_mlops.base.errors import BadRequest, OutOfReach
from hf_mlops.population import cluster
from hf_mlops.population.cluster import run_on_ray

CONFIG = PopulationConfig(runs=64, train_steps=300, checkpoints=3, reference_runs=1, chunk=32)
HEAD = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, psutil.Process]]:
    """A cluster of two workers: its address and the process whose descendants its workers are."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def on_ray(head: tuple[str, psutil.Process]) -> Engine:
    return Engine("ray", head[0])


@pytest.fixture(scope="module")
def connected(on_ray: Engine) -> Iterator[Engine]:
    """This process connected once, for all the tests that need not connect by themselves."""
    ray.init(on_ray.ray_address, log_to_driver=False)
    yield Engine("ray")
    ray.shutdown()


@pytest.fixture(scope="module")
def trained_here(digits: Dataset) -> Population:
    return train_population(CONFIG, digits, "cpu", Engine(threads=1))


def same(one: Population, other: Population) -> bool:
    names = ("initial", "weights", "forgotten", "losses", "accuracies", "run", "step", "reference", "held_out")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_killed_worker_changes_nothing(
    head: tuple[str, psutil.Process], on_ray: Engine, trained_here: Population, digits: Dataset
) -> None:
    killed: list[int] = []
    finished = threading.Event()

    def kill_one_at_work() -> None:
        while not killed and not finished.is_set():
            for process in head[1].children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if not killed and process.name().startswith("ray::_call"):
                        process.kill()
                        killed.append(process.pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    try:
        population = train_population(CONFIG, digits, "cpu", on_ray)
    finally:
        finished.set()
        killer.join()
    assert killed
    assert same(population, trained_here)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1", BadRequest, "ray_address = '127.0.0.1' is not allowed"),
        ("here:there", BadRequest, "ray_address = 'here:there' is not allowed"),
        ("127.0.0.1:9", OutOfReach, "no Ray cluster answers at 127.0.0.1:9"),
    ],
)
def test_an_address_where_no_cluster_answers_is_refused_at_once(
    address: str, error: type[Exception], message: str, digits: Dataset
) -> None:
    started = time.monotonic()
    with pytest.raises(error, match=message):
        train_population(CONFIG, digits, "cpu", Engine("ray", address))
    assert time.monotonic() - started < 60


def test_retraining_on_a_cluster_gives_the_same_targets(connected: Engine, digits: Dataset) -> None:
    forgotten = torch.eye(10, dtype=torch.bool)[:4]
    here, there = (retrain(CONFIG, digits, forgotten, 5, "cpu", 2, engine) for engine in (Engine(threads=1), connected))
    assert torch.equal(here, there)


def test_what_a_task_raises_is_raised_here(connected: Engine, tmp_path: Path) -> None:
    def refuse(item: int) -> None:
        raise ValueError(f"{item} is not allowed")

    with pytest.raises(ValueError, match=r"^7 is not allowed$"):
        list(run_on_ray(refuse, [7], 1, "cpu", tmp_path))


def test_a_task_that_kills_every_worker_is_given_up(connected: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "RETRIES", 1)

    def die(item: int) -> None:
        (tmp_path / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(OSError, match="the Ray cluster gave up"):
        list(run_on_ray(die, [7], 1, "cpu", tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("package", "attribute", "message"),
    [
        ("hf_mlops", "hf_mlops.population.cluster.source_digest", r"has hf_mlops [0-9a-f]{16}; allowed: another, as here"),
        ("torch", "torch.__version__", rf"has torch {re.escape(torch.__version__)}; allowed: another, as here"),
    ],
)
def test_workers_of_another_version_are_refused_before_any_work(
    connected: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, attribute: str, message: str
) -> None:
    monkeypatch.setattr(attribute, (lambda: "another") if package == "hf_mlops" else "another")
    with pytest.raises(ValueError, match=rf"the Ray worker on [\d.]+ {message}"):
        list(run_on_ray(lambda item: (tmp_path / "begun").touch(), [1], 1, "cpu", tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_task_that_no_machine_has_room_for_is_refused(connected: Engine, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a task takes 3 processors and 1 GPUs; allowed: up to 2 and 0"):
        list(run_on_ray(print, [1], 3, "cuda", tmp_path))


def test_a_worker_that_does_not_see_the_store_is_refused(
    connected: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "touch", lambda path: path.parent.mkdir(exist_ok=True))  # as on another machine's disk
    monkeypatch.setattr(Path, "unlink", lambda path: None)
    with pytest.raises(ValueError, match=f"does not see {tmp_path}; allowed: a store that all machines of the cluster share"):
        list(run_on_ray(print, [1], 1, "cpu", tmp_path))


@pytest.mark.slow
def test_targets_trained_on_ray_are_one_run_with_the_very_same_population(tmp_path: Path, digits: Dataset) -> None:
    store = Store(tmp_path)
    done = store.run("targets", runs=64, train_steps=60, reference_runs=1, engine="ray", store=tmp_path / "chunks")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = store.client.search_runs(["0"])
    assert run.info.status == "FINISHED" and run.data.params["targets.engine"] == "ray"
    population = Population.load(Path(store.client.download_artifacts(run.info.run_id, "population")))
    here = train_population(population.config, digits, "cpu", Engine(threads=1))
    assert torch.equal(population.weights, here.weights) and torch.equal(population.run, here.run)
    assert len(list((tmp_path / "chunks").iterdir())) == 2
