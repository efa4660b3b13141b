"""Executors: who trains the chunks of a population, this process or a Ray cluster. Either way they leave them in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hf_mlops.base.config import check_config
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.progress import Progress
from hf_mlops.compute.device import choose_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.chunk import Chunk, Rows, train_chunk
from hf_mlops.population.config import PopulationConfig
from hf_mlops.population.store import ChunkStore
from hf_mlops.population.target import Target

LOCAL, RAY = ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Engine:
    """Where chunks are trained. It decides nothing about the result but by `threads`."""

    name: str = LOCAL  # in this process, or as tasks of a Ray cluster
    ray_address: str = ""  # HOST:PORT of a cluster; empty: one of this machine alone, which lives as long as the work
    store: str = ""  # folder that chunks are left in, and found in by who goes on; empty: a temporary one
    threads: int = 0  # that a chunk is computed with; 0: in this process as many as torch takes, on a cluster 1

    def __post_init__(self) -> None:
        rules = {
            "name": (lambda name: name in ENGINES, ", ".join(ENGINES)),
            "ray_address": (lambda address: not address or self.name == RAY, f"empty, unless engine is {RAY}"),
            "threads": (lambda n: n >= 0, "a whole number from 0"),
        }
        check_config(self, rules)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder of the store; a temporary one goes with the block."""
        if self.store:
            Path(self.store).mkdir(parents=True, exist_ok=True)
            yield Path(self.store).resolve()
        else:
            with TemporaryDirectory(prefix="hf_mlops-") as folder:
                yield Path(folder)


@dataclass(frozen=True)
class Work:
    """All that it takes to train a chunk and to keep what it has become, in this process or another."""

    config: PopulationConfig
    dataset: Dataset
    device: str  # cpu or cuda
    threads: int
    store: ChunkStore

    def do(self, chunk: Chunk, advance: Callable[[int], object] = lambda model_steps: None) -> None:
        """Trains a chunk into the store."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self.store.write(chunk, train_chunk(self.config, self.dataset, chunk, self.device, advance))
        finally:
            torch.set_num_threads(before)

    def model_steps(self, chunks: Iterable[Chunk]) -> int:
        """How many optimiser steps of single models chunks are."""
        return self.config.train_steps * sum(len(chunk.forgotten) for chunk in chunks)


def execute(
    what: str, config: PopulationConfig, dataset: Dataset, chunks: Sequence[Chunk], device: str, engine: Engine
) -> list[Rows]:
    """What chunks become: those that are not in the store are trained.

    Args:
        what: the work, in two or three words, for its progress.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BadRequest: as `train_chunk`; a cluster that cannot be used for this, before any work starts.
        OutOfReach: the store cannot be written, or the cluster has failed.
    """
    device = choose_device(device).type
    threads = engine.threads or (torch.get_num_threads() if engine.name == LOCAL else 1)
    initial = Target.for_dataset(config.architecture, dataset, config.scope, config.seed).initialisation_digest
    with engine.folder() as folder:
        store = ChunkStore.of(folder, config, dataset, initial, device, threads)
        work = Work(config, dataset, device, threads, store)
        missing = [chunk for chunk in chunks if not store.has(chunk)]
        done = work.model_steps(chunks) - work.model_steps(missing)
        with Progress(what, work.model_steps(chunks), "model-step", done=done) as progress:
            if engine.name == LOCAL:
                for chunk in missing:
                    work.do(chunk, progress.advance)
            else:
                for chunk in _run_on_ray()(work.do, missing, threads, device, folder, engine.ray_address):
                    progress.advance(work.model_steps([chunk]))
        return [store.read(chunk) for chunk in chunks]


def _run_on_ray() -> Callable[..., Iterator[Chunk]]:
    try:
        from hf_mlops.population.cluster import run_on_ray
    except ImportError as error:
        raise BadRequest(f"engine = {RAY!r} needs Ray ({error}): pip install 'hf_mlops[ray]'") from error
    return run_on_ray
