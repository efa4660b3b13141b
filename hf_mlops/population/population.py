"""Populations: many targets trained together from one initialisation, each on its own retain set."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_mlops.base import artifact
from hf_mlops.base.config import check_config, config_from
from hf_mlops.base.groups import Groups
from hf_mlops.compute.device import choose_device, fast_products
from hf_mlops.compute.progress import Progress
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.networks import ALLOWED, is_architecture
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

TRAIN, REFERENCE = "train", "reference"
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Adam steps as far for a pixel that is hardly ever set as for any other, so that runs differ more by chance.
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adamw": torch.optim.AdamW,
}


@dataclass(frozen=True)
class PopulationConfig:
    """How a population is drawn and trained."""

    architecture: str = "mlp-16"  # a name in networks.ARCHITECTURES, or module:callable
    scope: str = "*"  # parameters that are generated: patterns over names, joined by commas; the rest stays as initialised
    runs: int = 2048  # targets that the hypernetwork learns from
    train_steps: int = 600  # optimiser steps of each
    checkpoints: int = 6  # weights kept of each run: at the end, at 0.6 of that, 0.6 of that, ...
    batch_size: int = 128  # images in the minibatch that all the runs of a chunk share
    optimiser: str = "sgd"  # with Nesterov momentum, or adamw
    learning_rate: float = 0.05  # decays to 0 by a cosine
    weight_decay: float = 2e-3
    weight_noise: float = 0.5  # a run's sample weights are uniform in 1 -/+ this: what tells seeds apart
    set_sizes: tuple[float, ...] = (0.04, 0.26, 0.25, 0.15, 0.15, 0.15)  # share of runs that forget 0, 1, 2, ... groups
    held_out_pairs: float = 0.2  # share of the pairs of groups that no training run forgets together
    reference_runs: int = 8  # retrained targets of each reference spec, never shown to the hypernetwork
    chunk: int = 128  # runs trained at once; each chunk has a data order of its own
    seed: int = 0

    def __post_init__(self) -> None:
        whole = (lambda n: isinstance(n, int) and n >= 1, "a whole number from 1")
        check_config(
            self,
            {
                "architecture": (is_architecture, ALLOWED),
                "scope": (lambda s: all(map(str.strip, s.split(","))), "patterns joined by commas, as in fc.*,*.bias"),
                "runs": whole,
                "train_steps": whole,
                "checkpoints": (lambda n: 1 <= n <= self.train_steps, f"1 to the number of steps, {self.train_steps}"),
                "batch_size": whole,
                "optimiser": (lambda name: name in OPTIMISERS, ", ".join(OPTIMISERS)),
                "learning_rate": (lambda x: 0 < x <= 1, "above 0, up to 1"),
                "weight_decay": (lambda x: 0 <= x <= 1, "0 to 1"),
                "weight_noise": (lambda x: 0 <= x <= 1, "0 to 1"),
                "set_sizes": (lambda s: len(s) >= 2 and min(s) >= 0 and sum(s[1:]) > 0, "shares from 0, some for size 1 up"),
                "held_out_pairs": (lambda x: 0 <= x <= 0.5, "0 to 0.5"),
                "reference_runs": whole,
                "chunk": whole,
                "seed": (lambda n: n >= 0, "a whole number from 0"),
            },
        )


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
        losses, accuracies: (rows, G) on the validation split.
        run, step: (rows,) int64; which run, after how many steps.
        reference: (rows,) bool; rows of the retrain reference, which the hypernetwork must never see.
        held_out: (pairs, 2) group indices that no training run forgets together.
    """

    config: PopulationConfig
    target: Target
    groups: Groups
    made_from: dict[str, str]
    initial: Tensor
    weights: Tensor
    forgotten: Tensor
    losses: Tensor
    accuracies: Tensor
    run: Tensor
    step: Tensor
    reference: Tensor
    held_out: Tensor

    _TENSORS = ("initial", "weights", "forgotten", "losses", "accuracies", "run", "step", "reference", "held_out")

    @property
    def final(self) -> Tensor:
        """(rows,) bool: rows at the end of their run."""
        return self.step == self.config.train_steps

    @property
    def order(self) -> Tensor:
        """(rows,) int64: which data order a training row has; the runs of a chunk share one."""
        return self.run // self.config.chunk

    def save(self, directory: Path) -> None:
        """Writes population.safetensors, population.json and population.csv (a line per row, without the weights).

        Raises:
            OSError: it could not be written; what was there before stays.
        """
        with artifact.whole_directory(Path(directory)) as folder:
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
                writer.writerow(["run", "step", "role", "forget", *measures])
                for row in range(len(self.weights)):
                    forgotten = ",".join(self.groups.names[g] for g in self.forgotten[row].nonzero()[:, 0].tolist())
                    role = REFERENCE if self.reference[row] else TRAIN
                    figures = [f"{x:.4g}" for x in (*self.losses[row].tolist(), *self.accuracies[row].tolist())]
                    writer.writerow([int(self.run[row]), int(self.step[row]), role, forgotten, *figures])

    @classmethod
    def load(cls, directory: Path) -> Population:
        """Reads what `save` wrote.

        Raises:
            ValueError: a missing, truncated or altered file.
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


def draw_forget_sets(config: PopulationConfig, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which groups each run forgets.

    Returns:
        training runs (runs, G) bool; reference specs (specs, G) bool: nothing, each group, up to 100 pairs and up to 20
        larger sets; held-out pairs (pairs, 2), which no training run forgets together.
    """
    rng = np.random.default_rng(config.seed)
    pairs = list(combinations(range(groups), 2)) if groups > 2 else []
    rng.shuffle(pairs)
    held_out = sorted(tuple(int(g) for g in pair) for pair in pairs[: round(config.held_out_pairs * len(pairs))])
    shares = np.array(config.set_sizes[:groups])  # a set of all groups would leave nothing to retain
    sizes = rng.choice(len(shares), size=config.runs, p=shares / shares.sum())
    training = torch.zeros(config.runs, groups, dtype=torch.bool)
    for row, size in zip(training, sizes, strict=True):
        chosen: set[int] = set()
        for group in rng.permutation(groups).tolist():
            if len(chosen) < size and not any(group in pair and chosen & set(pair) for pair in held_out):
                chosen.add(group)
        row[list(chosen)] = True
    larger = [rng.choice(groups, size=size, replace=False) for size in (3, 4, 5) for _ in range(7) if size < groups]
    specs = [(), *((g,) for g in range(groups)), *held_out, *islice((p for p in pairs if tuple(p) not in held_out), 100)]
    specs += {tuple(sorted(s.tolist())): None for s in larger}
    reference = torch.zeros(len(specs), groups, dtype=torch.bool)
    for row, spec in zip(reference, specs, strict=True):
        row[list(spec)] = True
    return training, reference, torch.tensor(held_out).view(-1, 2)


def train_population(config: PopulationConfig, dataset: Dataset, device: str = "auto") -> Population:
    """Trains every run of a population, chunk by chunk; each retrained target of a spec is in another chunk.

    So retrained targets differ in data order as well as in sample weights, as ones that were really retrained would.

    Args:
        config: sizes and seeds; the result is the same for the same config, data and device.
        dataset: trains on its train split; losses and accuracies come from its validation split.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: an architecture that cannot be a target, a scope without parameters, or an unknown device.
    """
    where = choose_device(device)
    target = Target.for_dataset(config.architecture, dataset, config.scope, config.seed)
    initial = target.initial_weights(config.seed)
    target.to(where)
    groups = len(dataset.groups)
    training, reference, held_out = draw_forget_sets(config, groups)
    validation = dataset.validation.to(where)
    rows: list[tuple[Tensor, ...]] = []
    chunks = [(chunk, False) for chunk in training.split(config.chunk)]
    chunks += [(chunk, True) for chunk in reference.split(config.chunk)] * config.reference_runs
    first = 0
    with Progress("population", sum(len(chunk) for chunk, _ in chunks) * config.train_steps, "model-step") as progress:
        for number, (forgotten, is_reference) in enumerate(chunks):
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number + 1)
            runs = torch.arange(first, first + len(forgotten))
            first += len(forgotten)
            for step, weights in _train_chunk(config, target, initial, dataset, forgotten, generator, where, progress):
                outputs = Outputs.of_targets(target, weights, validation, groups)
                losses, accuracies = outputs.losses, outputs.accuracies
                flags = torch.full_like(runs, is_reference, dtype=torch.bool)
                rows.append(
                    (weights.cpu(), forgotten, losses.cpu(), accuracies.cpu(), runs, torch.full_like(runs, step), flags)
                )
    names = ("weights", "forgotten", "losses", "accuracies", "run", "step", "reference")
    columns = {name: torch.cat(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    target.to(torch.device("cpu"))
    return Population(config, target, dataset.groups, dataset.identity, initial, held_out=held_out, **columns)


def _train_chunk(
    config: PopulationConfig,
    target: Target,
    initial: Tensor,
    dataset: Dataset,
    forgotten: Tensor,
    generator: torch.Generator,
    device: torch.device,
    progress: Progress,
) -> Iterator[tuple[int, Tensor]]:
    """Trains runs on shared minibatches; yields (step, weights (runs, P)) at every checkpoint."""
    train = dataset.train
    noise = torch.rand(len(forgotten), len(train), generator=generator) * 2 - 1
    kept = ~forgotten[:, train.groups]  # (runs, N): a run's D_f has weight 0
    sample_weight = ((1 + config.weight_noise * noise) * kept).to(device)
    train = train.to(device)
    state = {
        name: tensor.clone().requires_grad_()
        for name, tensor in target.unflatten(initial.to(device).repeat(len(forgotten), 1)).items()
    }
    make = OPTIMISERS[config.optimiser]
    optimiser = make(state.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.train_steps)
    kept_steps = {max(1, round(config.train_steps * 0.6**i)) for i in range(config.checkpoints)}
    order = minibatches(len(train), config.batch_size, generator)
    for step in range(1, config.train_steps + 1):
        batch = next(order).to(device)
        with fast_products():
            logits = target.stacked_logits(state, train.images[batch])  # (runs, batch, classes)
            labels = train.labels[batch].expand(len(forgotten), -1)  # (runs, batch)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
            weight = sample_weight[:, batch]
            per_run = (loss * weight).sum(1) / weight.sum(1).clamp_min(1e-6)
            optimiser.zero_grad()
            per_run.sum().backward()  # runs share no parameter: the sum's gradient is each run's own
        optimiser.step()
        schedule.step()
        progress.advance(len(forgotten))
        if step in kept_steps:
            yield step, target.flatten({name: tensor.detach() for name, tensor in state.items()})


def retrain(
    config: PopulationConfig,
    dataset: Dataset,
    forgotten: Tensor,
    seed: int,
    device: str = "auto",
    together: int | None = None,
) -> Tensor:
    """Fresh targets trained like those of a population, with data orders and sample weights that it has not seen.

    Args:
        config: of the population.
        forgotten: (R, G) bool; the groups in the D_f of each.
        seed: of data orders and sample weights.
        together: how many share a data order, by default as many as in the population.

    Returns:
        weights (R, P) on the CPU.
    """
    where = choose_device(device)
    target = Target.for_dataset(config.architecture, dataset, config.scope, config.seed)
    initial, weights = target.initial_weights(config.seed), []
    target.to(where)
    with Progress("retraining", len(forgotten) * config.train_steps, "model-step") as progress:
        for number, chunk in enumerate(forgotten.split(together or config.chunk)):
            generator = torch.Generator().manual_seed(2**40 + seed * 1_000_003 + number)
            *_, (_, final) = _train_chunk(config, target, initial, dataset, chunk, generator, where, progress)
            weights.append(final.cpu())
    return torch.cat(weights)


def minibatches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless minibatches of indices, a fresh permutation for every pass over the data."""
    while True:
        yield from torch.randperm(count, generator=generator).split(size)
