"""How a population is drawn and trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from hf_mlops.base.config import check_config
from hf_mlops.base.noise import SEEDS, is_seed
from hf_mlops.population.networks import ALLOWED, is_architecture

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
    learning_rate: float = 0.05  # at most; decays to 0 by a cosine
    warm_up: float = 0.0  # share of the steps in which the learning rate rises: long, it leaves less to chance
    weight_decay: float = 2e-3
    weight_noise: float = 0.5  # a run's sample weights are uniform in 1 -/+ this: what tells seeds apart
    set_sizes: tuple[float, ...] = (0.04, 0.26, 0.25, 0.15, 0.15, 0.15)  # share of runs that forget 0, 1, 2, ... groups
    partial: float = 0.125  # share of the runs that forget in part: their D_f keeps a sample weight between 0 and 1
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
                "warm_up": (lambda x: 0 <= x < 1, "0 to under 1"),
                "weight_decay": (lambda x: 0 <= x <= 1, "0 to 1"),
                "weight_noise": (lambda x: 0 <= x <= 1, "0 to 1"),
                "set_sizes": (lambda s: len(s) >= 2 and min(s) >= 0 and sum(s[1:]) > 0, "shares from 0, some for size 1 up"),
                "partial": (lambda x: 0 <= x <= 0.5, "0 to 0.5"),
                "held_out_pairs": (lambda x: 0 <= x <= 0.5, "0 to 0.5"),
                "reference_runs": whole,
                "chunk": whole,
                "seed": (is_seed, SEEDS),
            },
        )

    @property
    def checkpoint_steps(self) -> set[int]:
        """After how many steps weights are kept: 600, 360, 216, ... of 600."""
        return {max(1, round(self.train_steps * 0.6**i)) for i in range(self.checkpoints)}
