"""What each choice in the hypernetwork buys: the recipe of a data set, and variations of it that each change one thing.

    python -m benchmarks.ablation --dataset digits                      # all of them, one to three minutes each on two cores
    python -m benchmarks.ablation --dataset digits --only "64 latents"    # one; the table keeps its other rows

Writes benchmarks/results/ablation-DATASET-NETWORK.csv.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
import pandas as pd
import torch
from numpy.random import Generator
from torch import Tensor, nn

from benchmarks import RESULTS, write_table
from benchmarks.quality import figures
from benchmarks.trained import Trained, options, trained
from hf_mlops import Population, Reference, train_population
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.base.progress import Progress
from hf_mlops.hypernet.batch import Batch, BatchDrawer
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.hypernet.training import Trainer
from hf_mlops.serving.sampler import DEFAULT_STEPS

HYPERNET: dict[str, dict[str, Any]] = {
    "recipe": {},
    "DiHyFo-2": {"variant": "dihyfo-2"},
    "128 latents": {"space": "latent", "components": 128},
    "64 latents": {"space": "latent", "components": 64},
    "tokens of 64": {"token_width": 64},
    "half the width": {"width": 64},
    "no behavioural loss": {"behaviour": 0.0},
    "behavioural loss 5": {"behaviour": 5.0},
    "divergence alone": {"log_error": 0.0},
    "three fifths composed": {"composed": 0.6},
    "learning rate 1e-3": {"learning_rate": 1e-3},
}
STEPS = {"half the steps": 0.5, "twice the steps": 2.0}
POPULATION: dict[str, dict[str, Any]] = {
    "AdamW targets": {"optimiser": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-2},
    "half the runs": {"runs": 1024},
    "only the first layer generated": {"scope": "1.*"},
    "only the last layer generated": {"scope": "3.*"},
}


class Untold(Trainer):
    """Is told no data order."""

    def __init__(self, config: Any, population: Population, *rest: Any):
        super().__init__(config, replace(population, config=replace(population.config, chunk=population.config.runs)), *rest)


class UncomposedBatches(BatchDrawer):
    """Leave no class out of a target's predictions."""

    def left_out(self, forgotten: Tensor, generator: Generator) -> Tensor:
        return torch.zeros_like(forgotten)


class Uncomposed(Trainer):
    """Learns only of sets that runs forgot."""

    drawer_class = UncomposedBatches


class UnpairedBatches(BatchDrawer):
    """Compose no set that has a held-out pair in it."""

    def __init__(self, hypernetwork: Hypernetwork, population: Population, *rest: Any):
        super().__init__(hypernetwork, population, *rest)
        self.first, self.second = population.held_out.T

    def left_out(self, forgotten: Tensor, generator: Generator) -> Tensor:
        further = super().left_out(forgotten, generator)
        both = forgotten | further
        return further & ~(both[:, self.first] & both[:, self.second]).any(1, keepdim=True)


class Unpaired(Trainer):
    """Held-out pairs are new to the hypernetwork, too."""

    drawer_class = UnpairedBatches


class AlikeBatches(BatchDrawer):
    """Count alike in the linear guess."""

    def likeness(self) -> Tensor:
        return torch.ones_like(super().likeness())


class Alike(Trainer):
    """Has a linear guess at all checkpoints, not at what samples are to be."""

    drawer_class = AlikeBatches


class NoisierBatches(BatchDrawer):
    """Have more of the high noise levels, which few denoising steps begin with."""

    def times(self, generator: Generator) -> Tensor:
        return super().times(generator).sqrt()


class Noisier(Trainer):
    """Sees more of the high noise levels."""

    drawer_class = NoisierBatches


class Guided(nn.Module):
    """Classifier-free guidance (arXiv 2207.12598) of a denoiser that has also been trained without a signal."""

    def __init__(self, denoiser: nn.Module, scale: float):
        super().__init__()
        self.denoiser, self.scale = denoiser, scale

    def forward(self, noisy: Tensor, time: Tensor, signal: Tensor) -> Tensor:
        without = self.denoiser(noisy, time, torch.zeros_like(signal))
        return without + self.scale * (self.denoiser(noisy, time, signal) - without)


class UnsignalledBatches(BatchDrawer):
    """Have no signal for a tenth of the population's rows."""

    def draw(self, step: int) -> Batch:
        signal, chance = self.signal, generator_of(seed_of("guidance", self.config.seed, step))
        self.signal = signal * torch.from_numpy(chance.random((len(signal), 1)) >= 0.1).to(signal)
        batch = super().draw(step)
        self.signal = signal
        return batch


class Guidance(Trainer):
    """Learns to do without a signal as well; samples are pushed half as far again from that."""

    drawer_class = UnsignalledBatches

    def result(self) -> Any:
        hypernetwork = super().result()
        hypernetwork.denoiser = Guided(hypernetwork.denoiser, 1.5)
        return hypernetwork


METHOD: dict[str, type[Trainer]] = {
    "not told the data order": Untold,
    "nothing composed": Uncomposed,
    "no held-out pair composed": Unpaired,
    "a linear guess at all checkpoints alike": Alike,
    "more of the high noise levels": Noisier,
    "classifier-free guidance, 1.5": Guidance,
}
NAMES = [*HYPERNET, *STEPS, *METHOD, *POPULATION]


@click.command(help=__doc__)
@options
@click.option("--only", type=click.Choice(NAMES), help="One variation; the table keeps its other rows.")
def command(only: str | None, **choice: Any) -> None:
    base = trained(**choice)
    device, file = choice["device"], RESULTS / f"ablation-{base.name}.csv"
    rows = pd.read_csv(file).to_dict("records") if only and file.exists() else []
    for name in [only] if only else NAMES:
        row = {"variation": name, **figures(vary(name, base, device), DEFAULT_STEPS)[0]}
        rows = [*(one for one in rows if one["variation"] != name), row]
        write_table(f"ablation-{base.name}", pd.DataFrame(rows))


def vary(name: str, base: Trained, device: str) -> Trained:
    """The recipe with one thing changed, trained."""
    if name == "recipe":
        return base
    started = time.monotonic()
    population, reference = base.population, base.reference
    if name in POPULATION:
        population = train_population(replace(population.config, **POPULATION[name]), base.dataset, device)
        reference = Reference.of(population, base.dataset)
    middle = time.monotonic()
    recipe = base.hypernetwork.config
    config = replace(recipe, train_steps=round(STEPS.get(name, 1) * recipe.train_steps), **HYPERNET.get(name, {}))
    trainer = METHOD.get(name, Trainer)(config, population, base.dataset, device)
    with Progress(name, config.train_steps) as progress:
        while trainer.step < config.train_steps:
            trainer.train_step()
            progress.advance()
    hypernetwork = trainer.result()
    seconds = {"population": middle - started, "hypernetwork": time.monotonic() - middle}
    return Trained(base.name, base.dataset, population, hypernetwork, reference, seconds)


if __name__ == "__main__":
    command()
