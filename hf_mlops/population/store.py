"""The store of chunks: what each has become, a folder in which whoever trains one leaves it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from hf_mlops.base.artifact import whole_directory
from hf_mlops.base.source import source_digest
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.chunk import Chunk, Rows
from hf_mlops.population.config import PopulationConfig


@dataclass(frozen=True)
class ChunkStore:
    """Rows of chunks in a folder, under a name that tells all that decides them.

    Args:
        folder: where; on a cluster one that all its machines see.
        made_by: digest of what decides the rows of every chunk: configuration, data, initial values, code, torch, threads.
    """

    folder: Path
    made_by: str

    @classmethod
    def of(
        cls, folder: Path, config: PopulationConfig, dataset: Dataset, initial: str, device: str, threads: int
    ) -> ChunkStore:
        """The store for chunks trained in this way.

        Args:
            initial: `Target.initialisation_digest`.
            device: `cpu` or `cuda`.
            threads: that a chunk is computed with, since sums may be taken in another order by more of them.
        """
        inputs = {
            "config": asdict(config),
            "data": dataset.digest,
            "initial": initial,
            "code": source_digest("population"),
            "torch": torch.__version__,
            "device": device,
            "threads": threads,
        }
        return cls(folder, hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest())

    def _place(self, chunk: Chunk) -> Path:
        sets = chunk.forgotten.numpy().tobytes() + chunk.forget_weight.numpy().tobytes()
        name = hashlib.sha256(f"{self.made_by} {chunk.seed} {chunk.forgotten.shape} ".encode() + sets).hexdigest()
        return self.folder / f"chunk-{name[:16]}"

    def has(self, chunk: Chunk) -> bool:
        """Whether this chunk has been trained; one that was is there whole."""
        return self._place(chunk).is_dir()

    def write(self, chunk: Chunk, rows: Rows) -> None:
        """Keeps what a chunk has become.

        Raises:
            OutOfReach: it could not be written; then nothing of it is there.
        """
        with whole_directory(self._place(chunk)) as folder:
            write_tensors(
                folder, "rows", {field.name: getattr(rows, field.name) for field in fields(rows)}, {"seed": chunk.seed}
            )

    def read(self, chunk: Chunk) -> Rows:
        """What `write` kept.

        Raises:
            DamagedArtifact: it is missing, truncated or altered.
        """
        tensors, _ = read_tensors(self._place(chunk), "rows")
        return Rows(**tensors)
