"""Populations: many targets trained together from one initialisation, each on its own retain set."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_mlops.base.artifact import whole_directory
from hf_mlops.base.config import config_from
from hf_mlops.base.groups import Groups
from hf_mlops.base.noise import seed_of
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.chunk import Chunk
from hf_mlops.population.config import PopulationConfig
from hf_mlops.population.draw import draw_forget_sets
from hf_mlops.population.executor import Engine, execute
from hf_mlops.population.target import Target

TRAIN, REFERENCE = "train", "reference"


@dataclass(frozen=True)
class Population:
    """Weights of many targets, and for each row what it forgot and how it fares.

    Args:
        config: how it was made.
        target: the architecture.
        groups: the G groups.
        made_from: name and digest of the data set.
        initial: (P,) the shared initialisation.
        weights: (rows, P) float32; a row is one checkpoint of one run.
        forgotten: (rows, G) bool; the groups in D_f.
        forget_weight: (rows,) float32; the sample weight of D_f: 0 where it was left out, up to 1 where a run forgot in part.
        losses, accuracies: (rows, G) on `Dataset.conditioning`.
        run, step: (rows,) int64; which run, after how many steps.
        reference: (rows,) bool; rows of the retrain reference, which the hypernetwork must never see.
        held_out: (pairs, 2) group indices that no training run forgets together.
    """

    config: PopulationConfig
    target: Target
    groups: Groups
    made_from: dict[str, str]
    initial: Float[Tensor, " params"]
    weights: Float[Tensor, "rows params"]
    forgotten: Bool[Tensor, "rows groups"]
    forget_weight: Float[Tensor, " rows"]
    losses: Float[Tensor, "rows groups"]
    accuracies: Float[Tensor, "rows groups"]
    run: Int[Tensor, " rows"]
    step: Int[Tensor, " rows"]
    reference: Bool[Tensor, " rows"]
    held_out: Int[Tensor, "pairs 2"]

    _TENSORS = (
        "initial",
        "weights",
        "forgotten",
        "forget_weight",
        "losses",
        "accuracies",
        "run",
        "step",
        "reference",
        "held_out",
    )

    @property
    def final(self) -> Tensor:
        """(rows,) bool: rows at the end of their run."""
        return self.step == self.config.train_steps

    @property
    def order(self) -> Tensor:
        """(rows,) int64: which data order a training row has; the runs of a chunk share one."""
        return self.run // self.config.chunk

    def retrained(self, forgotten: Bool[Tensor, " groups"]) -> Float[Tensor, "targets params"]:
        """Weights of the reference targets, at the end of their run, that were retrained without just these groups."""
        return self.weights[self.reference & self.final & (self.forgotten == forgotten).all(1)]

    def save(self, directory: Path) -> None:
        """Writes population.safetensors, population.json and population.csv (a line per row, without the weights).

        Raises:
            OutOfReach: it could not be written; what was there before stays.
        """
        with whole_directory(Path(directory)) as folder:
            about = {
                "config": asdict(self.config),
                "target": self.target.description,
                "groups": asdict(self.groups),
                "made_from": self.made_from,
            }
            tensors = {name: getattr(self, name) for name in self._TENSORS}
            tensors |= {f"shared.{name}": tensor for name, tensor in self.target.shared.items()}
            write_tensors(folder, "population", tensors, about)
            with (folder / "population.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                measures = [f"{what}_{group}" for what in ("loss", "accuracy") for group in self.groups.names]
                writer.writerow(["run", "step", "role", "forget", "forget_weight", *measures])
                for row in range(len(self.weights)):
                    forgotten = ",".join(self.groups.names[g] for g in self.forgotten[row].nonzero()[:, 0].tolist())
                    role = REFERENCE if self.reference[row] else TRAIN
                    figures = [f"{x:.4g}" for x in (*self.losses[row].tolist(), *self.accuracies[row].tolist())]
                    weight = f"{self.forget_weight[row]:.3g}"
                    writer.writerow([int(self.run[row]), int(self.step[row]), role, forgotten, weight, *figures])

    @classmethod
    def load(cls, directory: Path) -> Population:
        """Reads what `save` wrote.

        Raises:
            DamagedArtifact: a missing, truncated or altered file.
        """
        tensors, about = read_tensors(Path(directory), "population")
        config = config_from(PopulationConfig, about["config"])
        shared = {name.removeprefix("shared."): tensors.pop(name) for name in list(tensors) if name.startswith("shared.")}
        return cls(
            config,
            Target(**about["target"], shared=shared),
            config_from(Groups, about["groups"]),
            about["made_from"],
            **tensors,
        )


def train_population(config: PopulationConfig, dataset: Dataset, device: str = "auto", engine: Engine = Engine()) -> Population:
    """Trains every run of a population, chunk by chunk; each retrained target of a spec is in another chunk.

    So retrained targets differ in data order as well as in sample weights, as ones that were really retrained would.

    Args:
        config: sizes and seeds; the result is the same for the same config, data, device and number of threads.
        dataset: trains on its train split; losses and accuracies come from `Dataset.conditioning`.
        device: `auto`, `cpu` or `cuda`.
        engine: where chunks are trained; by default in this process.

    Raises:
        BadRequest: an architecture that cannot be a target, a scope without parameters, an unknown device, or a cluster that
            cannot be used.
    """
    sets = draw_forget_sets(config, dataset.groups)
    training = zip(sets.training.split(config.chunk), sets.forget_weight.split(config.chunk), strict=True)
    references = [(part, torch.zeros(len(part))) for part in sets.reference.split(config.chunk)]
    parts = [*training, *references * sets.retrained]
    chunks = [Chunk(*part, seed_of("population", config.seed, number)) for number, part in enumerate(parts)]
    rows = execute("population", config, dataset, chunks, device, engine)
    target = Target.for_dataset(config.architecture, dataset, config.scope, config.seed)
    firsts = accumulate((len(forgotten) for forgotten, _ in parts[:-1]), initial=0)
    run = torch.cat([one.run + first for one, first in zip(rows, firsts, strict=True)])
    return Population(
        config,
        target,
        dataset.groups,
        dataset.identity,
        target.initial_weights(config.seed),
        **{
            name: torch.cat([getattr(one, name) for one in rows])
            for name in ("weights", "forgotten", "forget_weight", "losses", "accuracies", "step")
        },
        run=run,
        reference=run >= config.runs,
        held_out=sets.held_out,
    )


def retrain(
    config: PopulationConfig,
    dataset: Dataset,
    forgotten: Bool[Tensor, "targets groups"],
    seed: int,
    device: str = "auto",
    together: int | None = None,
    engine: Engine = Engine(),
) -> Float[Tensor, "targets params"]:
    """Fresh targets trained like those of a population, with data orders and sample weights that it has not seen.

    Args:
        config: of the population.
        forgotten: the groups in the D_f of each.
        seed: of data orders and sample weights.
        together: how many share a data order, by default as many as in the population.
        engine: where they are trained; by default in this process.

    Returns:
        weights on the CPU.
    """
    parts = enumerate(forgotten.split(together or config.chunk))
    chunks = [Chunk(part, torch.zeros(len(part)), seed_of("retrain", seed, number)) for number, part in parts]
    rows = execute("retraining", replace(config, checkpoints=1), dataset, chunks, device, engine)
    return torch.cat([one.weights for one in rows])
