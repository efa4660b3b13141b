"""What each choice in the hypernetwork buys: the recipe of a data set, and variations of it that each change one thing.

    python -m benchmarks.ablation --dataset digits                     # all of them, two to four minutes each on two cores
    python -m benchmarks.ablation --dataset digits --only "latents"    # one; the table keeps its other rows

Every hypernetwork is trained for half the recipe's steps, unless its variation is their number. Writes
 benchmarks/results/ablation-DATASET-NETWORK.csv.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import trange

from benchmarks import RESULTS, write_table
from benchmarks.quality import figures
from benchmarks.trained import Trained, options, trained
from hf_mlops import Population, Reference, train_population
from hf_mlops.hypernetwork import DEFAULT_STEPS
from hf_mlops.training import Trainer

HYPERNET: dict[str, dict[str, Any]] = {
    "recipe": {},
    "DiHyFo-2": {"variant": "dihyfo-2"},
    "latents": {"space": "latent", "components": 128},
    "DiHyFo-2, latents": {"variant": "dihyfo-2", "space": "latent", "components": 128},
    "no behavioural loss": {"behaviour": 0.0},
    "behavioural loss 5": {"behaviour": 5.0},
    "behavioural loss 50": {"behaviour": 50.0},
    "divergence alone": {"log_error": 0.0},
    "log error 0.02": {"log_error": 0.02},
    "images not mixed": {"mix": 0.0},
    "256 images, 64 rows": {"images": 256, "batch_size": 64},
    "no noise on the signal": {"signal_noise": 0.0},
    "noise of 0.15 on the signal": {"signal_noise": 0.15},
    "weight decay 0.1": {"weight_decay": 0.1},
    "half the width": {"width": 64},
    "half the layers": {"layers": 2},
    "half the components": {"components": 64},
    "token width 64": {"token_width": 64},
    "learning rate 1e-3": {"learning_rate": 1e-3},
}
STEPS = {"a quarter of the steps": 0.25, "all steps": 1.0}
POPULATION: dict[str, dict[str, Any]] = {
    "AdamW targets": {"optimiser": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-2},
    "targets at learning rate 0.1": {"learning_rate": 0.1},
    "half the runs": {"runs": 1024},
    "half the sample weight noise": {"weight_noise": 0.25},
    "data order for every 512 runs": {"chunk": 512},
    "two checkpoints": {"checkpoints": 2},
    "only the first layer generated": {"scope": "1.*"},
    "only the last layer generated": {"scope": "3.*"},
}


class Undirected(Trainer):
    """Is told no data order."""

    def __init__(self, config: Any, population: Population, *rest: Any):
        super().__init__(config, replace(population, config=replace(population.config, chunk=population.config.runs)), *rest)


class Noisier(Trainer):
    """Sees more of the high noise levels, which few denoising steps begin with."""

    def times(self) -> Tensor:
        return super().times().sqrt()


class Guided(nn.Module):
    """Classifier-free guidance (arXiv 2207.12598) of a denoiser that has also been trained without a signal."""

    def __init__(self, denoiser: nn.Module, scale: float):
        super().__init__()
        self.denoiser, self.scale = denoiser, scale

    def forward(self, noisy: Tensor, time: Tensor, signal: Tensor) -> Tensor:
        without = self.denoiser(noisy, time, torch.zeros_like(signal))
        return without + self.scale * (self.denoiser(noisy, time, signal) - without)


class Guidance(Trainer):
    """Trains a tenth of the rows without a signal; samples are pushed half as far again from what comes without one."""

    def losses(self) -> tuple[Tensor, Tensor]:
        signal = self.signal
        self.signal = signal * (torch.rand(len(signal), 1, generator=self.generator) >= 0.1).to(signal)
        losses = super().losses()
        self.signal = signal
        return losses

    def result(self) -> Any:
        hypernetwork = super().result()
        hypernetwork.denoiser = Guided(hypernetwork.denoiser, 1.5)
        return hypernetwork


METHOD: dict[str, type[Trainer]] = {
    "not told the data order": Undirected,
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
    if name == "all steps":
        return base
    started = time.monotonic()
    population, reference = base.population, base.reference
    if name in POPULATION:
        population = train_population(replace(population.config, **POPULATION[name]), base.dataset, device)
        reference = Reference.of(population, base.dataset)
    middle = time.monotonic()
    recipe = base.hypernetwork.config
    config = replace(recipe, steps=round(STEPS.get(name, 0.5) * recipe.steps), **HYPERNET.get(name, {}))
    trainer = METHOD.get(name, Trainer)(config, population, base.dataset, device)
    for _ in trange(config.steps, desc=name):
        trainer.train_step()
    hypernetwork = trainer.result()
    seconds = {"population": middle - started, "hypernetwork": time.monotonic() - middle}
    return Trained(base.name, base.dataset, population, hypernetwork, reference, seconds)


if __name__ == "__main__":
    command()
