"""The hypernetwork: a diffusion model over classifier weights that samples classifiers for a forget spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_mlops.base import artifact
from hf_mlops.base.artifact import arrays_of
from hf_mlops.base.config import check_config, config_from
from hf_mlops.base.coverage import holds_of
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.base.groups import Groups
from hf_mlops.base.noise import SEEDS, is_seed, torch_seed_of
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.device import choose_device
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.hypernet.denoiser import Denoiser
from hf_mlops.hypernet.spaces import SPACES, Latents, RawTokens, WeightSpace
from hf_mlops.hypernet.start import warn_of_foreign, warn_of_memory
from hf_mlops.population.population import Population
from hf_mlops.population.target import Target
from hf_mlops.serving.features import tells_pairs
from hf_mlops.serving.prompts import PromptBook
from hf_mlops.serving.sampler import DEFAULT_START_TIME, DEFAULT_STEPS, Sampler, Samples, Start, Wanted
from hf_mlops.serving.signal import VARIANTS, LossSignal


@dataclass(frozen=True)
class HypernetConfig:
    """Shape and training of a hypernetwork."""

    variant: str = "dihyfo-1"  # what it is conditioned on: a name in signal.VARIANTS
    space: str = "raw"  # coordinates that diffusion runs in: a name in spaces.SPACES
    shares: bool = False  # whether DiHyFo-1 is told which share of D_f each group is
    components: int = 128  # principal components kept: raw, of a longer row of a weight matrix; latent, of all weights
    token_width: int = 0  # coordinates in a token; 0: the space's own default
    width: int = 128  # of the transformer
    layers: int = 4
    heads: int = 4
    train_steps: int = 3000  # optimiser steps
    batch_size: int = 128  # population rows a step
    composed: float = 0.3  # share of those that stand for sets of classes that perhaps no run forgot: batch.Kinds
    images: int = 64  # images a step that the behavioural loss runs on
    behaviour: float = 20.0  # weight of the behavioural loss; the weight-space loss has weight 1
    log_error: float = 0.02  # in the behavioural loss: weight of the squared error of log probabilities beside the divergence
    learning_rate: float = 3e-3  # AdamW; warms up over 5 % of the steps, then decays to 0 by a cosine
    weight_decay: float = 1e-2  # AdamW
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.995  # decay of the moving average that is kept as the result
    seed: int = 0

    def __post_init__(self) -> None:
        whole = (lambda n: isinstance(n, int) and n >= 1, "a whole number from 1")
        check_config(
            self,
            {
                "variant": (lambda v: v in VARIANTS, ", ".join(VARIANTS)),
                "space": (lambda s: s in SPACES, ", ".join(SPACES)),
                **dict.fromkeys(("components", "layers", "heads", "train_steps", "batch_size", "images"), whole),
                "width": (lambda n: n >= 1 and n % (2 * self.heads) == 0, f"a multiple of 2 * heads = {2 * self.heads}"),
                "token_width": (lambda n: n >= 0, "a whole number from 0"),
                "behaviour": (lambda x: 0 <= x <= 1000, "0 to 1000"),
                "composed": (lambda x: 0 < x <= 1, "above 0, up to 1"),
                "log_error": (lambda x: 0 <= x <= 1, "0 to 1"),
                "learning_rate": (lambda x: 0 < x <= 1, "above 0, up to 1"),
                "weight_decay": (lambda x: 0 <= x <= 1, "0 to 1"),
                "clip": (lambda x: x > 0, "above 0"),
                "ema": (lambda x: 0 <= x < 1, "0 to below 1"),
                "seed": (is_seed, SEEDS),
            },
        )

    @property
    def space_width(self) -> int:
        """Coordinates in a token."""
        return self.token_width or SPACES[self.space].default_width


class Hypernetwork(nn.Module):
    """Denoiser, weight space, loss signal and default prompts, as one thing to train, save, load and sample from.

    The denoiser is told, beside the loss signal, which of the population's data orders a target was trained in; a sample's is
    drawn by its seed, but one that begins at start weights is told none. Targets of different orders lie too far apart for
    their mean to be as good as they are.

    Build one with `from_population`, `train_hypernetwork` or `load`.
    """

    def __init__(
        self,
        config: HypernetConfig,
        target: Target,
        groups: Groups,
        made_from: dict[str, str],
        space: WeightSpace,
        signal: LossSignal,
        prompts: PromptBook,
        orders: int,
    ):
        super().__init__()
        self.config, self.target, self.groups, self.made_from = config, target, groups, made_from
        self.space, self.signal, self.prompts, self.orders = space, signal, prompts, orders
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed_of("denoiser", config.seed))
            self.denoiser = Denoiser(space.tokens, space.width, self.told, config.width, config.layers, config.heads)

    @classmethod
    def from_population(cls, config: HypernetConfig, population: Population, share: Float[Tensor, " groups"]) -> Hypernetwork:
        """An untrained hypernetwork, its weight space and signal fitted on the population's training rows.

        Args:
            share: of the images of `Dataset.conditioning` that each group is.
        """
        rows = ~population.reference
        weights, losses, forgotten = population.weights[rows], population.losses[rows], population.forgotten[rows]
        space: WeightSpace
        if config.space == "raw":
            space = RawTokens.fit(population.target, weights, config.space_width, config.components)
        else:
            space = Latents.fit(population.target, weights, config.space_width, config.components)
        holds = torch.from_numpy(holds_of(population.groups))
        final, without = population.final[rows], population.forget_weight[rows] == 0
        pairs = torch.tensor(tells_pairs(len(share), int(final.sum())))
        signal = LossSignal.fit(config.variant, losses, forgotten, share, holds, pairs, torch.tensor(config.shares))
        prompts = PromptBook.fit(losses, forgotten, final, without, share, holds, pairs)
        orders = int(population.order[rows].max()) + 1
        return cls(config, population.target, population.groups, population.made_from, space, signal, prompts, orders)

    @property
    def told(self) -> int:
        """Numbers that the denoiser is told: entries of the loss signal, and one for each data order."""
        return self.signal.width + self.orders

    @property
    def device(self) -> torch.device:
        """Where sampling is computed."""
        return next(self.denoiser.parameters()).device

    def place(self, device: torch.device) -> Hypernetwork:
        """Moves what computes denoising steps, in place; signal, prompts and targets stay on the CPU."""
        for part in (self.denoiser, self.space):
            part.to(device)
        return self

    def sample(
        self,
        forget: str | ForgetSpec,
        n: int = 1,
        seed: int = 0,
        steps: int = DEFAULT_STEPS,
        retain_loss: float | None = None,
        forget_loss: float | None = None,
        sampler: str = "ddim",
        start: Float[Tensor, " params"] | None = None,
        start_time: float = DEFAULT_START_TIME,
    ) -> Samples:
        """Samples classifiers that behave as if retrained without the forget set.

        Args:
            forget: a forget spec: `"7"`, `"3,5"`, a group's name, `""` for none.
            n, seed, steps, retain_loss, forget_loss, sampler: as of `Wanted`; a seed alone gives the same weights again, up to
                float32's rounding, which on this path depends on what is computed at once.
            start: weights of a classifier in production that samples are to stay near; it must come from the
                initialisation and training that the population had.
            start_time: how much noise is put on `start`, above 0 to 1: the less, the nearer a sample stays to it.

        Raises:
            BadRequest: a bad spec, number, seed, loss or sampler, or start weights that are not this target's.

        Warns:
            UserWarning: start weights that lie too far from the population to come from its initialisation, or a start time
                that leaves a sample too near to them.
        """
        spec = forget if isinstance(forget, ForgetSpec) else ForgetSpec.parse(forget, self.groups.names)
        wanted = Wanted(spec, n, seed, steps, retain_loss, forget_loss, sampler)
        near = None if start is None else self.near(start, start_time)
        samples = self.sampler.sample([wanted], near)[0]
        return replace(samples, weights=torch.from_numpy(samples.weights))

    def near(self, start: Float[Tensor, " params"], start_time: float) -> Start:
        """What samples are to stay near, as a `Sampler` takes it.

        Raises:
            BadRequest: start weights that are not this target's.

        Warns:
            UserWarning: as `sample` does.
        """
        if start.shape != (self.target.size,) or not start.isfinite().all():
            raise BadRequest(
                f"start weights of shape {tuple(start.shape)} are not allowed; allowed: those of"
                f" {self.target.architecture}, ({self.target.size},), all finite"
            )
        warn_of_foreign(self.space, start)
        warn_of_memory(start_time)
        return Start(self.space.encode(start[None].to(self.device)).float().cpu().numpy(), start_time)

    @property
    def sampler(self) -> Sampler:
        """What samples with this denoiser, on its device."""
        return Sampler(
            PromptBook(**arrays_of(self.prompts)),
            LossSignal(self.signal.variant, **arrays_of(self.signal)),
            self.orders,
            (self.space.tokens, self.space.width),
            self.target.size,
            self._computed(self.denoiser),
            self._computed(self.space.decode),
        )

    def _computed(self, part: Callable[..., Tensor]) -> Callable[..., np.ndarray]:
        """A part that takes and gives NumPy arrays."""

        @torch.no_grad()
        def run(*arrays: np.ndarray) -> np.ndarray:
            return part(*(torch.from_numpy(array).to(self.device) for array in arrays)).cpu().numpy()

        return run

    def save(self, directory: Path) -> None:
        """Writes hypernetwork.safetensors and hypernetwork.json.

        Raises:
            OutOfReach: it could not be written; what was there before stays.
        """
        with artifact.whole_directory(Path(directory)) as folder:
            parts: dict[str, dict[str, Any]] = {"shared": self.target.shared}
            parts |= {"prompts": arrays_of(self.prompts), "signal": arrays_of(self.signal)}
            others = {name: torch.as_tensor(array) for name, array in artifact.joined(parts).items()}
            write_tensors(folder, "hypernetwork", {**self.state_dict(), **others}, self.about)

    @property
    def about(self) -> dict:
        """All that `load` needs beside the tensors; JSON-ready."""
        return {
            "config": asdict(self.config),
            "target": self.target.description,
            "groups": asdict(self.groups),
            "made_from": self.made_from,
            "orders": self.orders,
        }

    @classmethod
    def load(cls, directory: Path, device: str = "auto") -> Hypernetwork:
        """Reads what `save` wrote.

        Raises:
            DamagedArtifact: a missing, truncated or altered file, or one of another architecture.
        """
        where = choose_device(device)
        tensors, about = read_tensors(Path(directory), "hypernetwork")
        config, parts = config_from(HypernetConfig, about["config"]), artifact.parted(tensors)
        target = Target(**about["target"], shared=parts.get("shared", {}))
        try:
            space = SPACES[config.space](config.space_width, **parts["space"])
            signal, prompts = LossSignal(config.variant, **parts["signal"]), PromptBook(**parts["prompts"])
            hypernetwork = cls(
                config,
                target,
                config_from(Groups, about["groups"]),
                about["made_from"],
                space,
                signal,
                prompts,
                about["orders"],
            )
            hypernetwork.denoiser.load_state_dict(parts["denoiser"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise DamagedArtifact(f"{directory} does not hold the tensors that its configuration needs: {error}") from error
        return hypernetwork.place(where)
