"""Sampling: from a forget spec to weights of classifiers, whatever computes a denoising step and wherever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import MAX_SEED, SampleNoise
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.serving import diffusion
from hf_mlops.serving.prompts import Prompt, PromptBook
from hf_mlops.serving.signal import UNTOLD, LossSignal, condition

DEFAULT_STEPS = 2  # denoising steps: accuracy and diversity nearest to retrained ones (python -m benchmarks.quality)
DEFAULT_START_TIME = 0.8  # of 0.2 to 0.8, fewest predictions changed and most accurate (python -m benchmarks.start)
MAX_SAMPLES = 10_000  # of one spec in one call
TOGETHER = 32  # samples that are computed at once, at most

Tokens: TypeAlias = Float32[np.ndarray, "rows tokens token_width"]


@dataclass(frozen=True)
class Wanted:
    """Samples that are wanted.

    Args:
        spec: what they are to have forgotten.
        n: how many; sample i has the seed `seed` + i, which alone gives the same weights again.
        seed: of the first, from 0 to `noise.MAX_SEED`.
        steps: denoising steps.
        retain_loss, forget_loss: mean loss asked for on D_r and D_f, nats; None: that of retrained targets.
        sampler: a name in `diffusion.SAMPLERS`.

    Raises:
        BadRequest: a number that is out of range, or an unknown sampler.
    """

    spec: ForgetSpec
    n: int = 1
    seed: int = 0
    steps: int = DEFAULT_STEPS
    retain_loss: float | None = None
    forget_loss: float | None = None
    sampler: str = "ddim"

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("n_samples", self.n, 1, MAX_SAMPLES),
            ("seed", self.seed, 0, MAX_SEED + 1 - self.n),
            ("steps", self.steps, 1, 1000),
        ):
            if not low <= value <= high:
                raise BadRequest(f"{name} = {value} is not allowed; allowed: {low} to {high}")
        diffusion.check_sampler(self.sampler)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of each sample."""
        return tuple(range(self.seed, self.seed + self.n))


@dataclass(frozen=True)
class Start:
    """What samples are to stay near.

    Args:
        tokens: its weights, encoded.
        time: how much noise is put on them, above 0 to 1: the less, the nearer a sample stays.
    """

    tokens: Float32[np.ndarray, "1 tokens token_width"]
    time: float


@dataclass(frozen=True)
class Samples:
    """Classifiers sampled for one forget spec.

    Args:
        spec: what they are to have forgotten.
        seeds: of each sample; the sample is a function of its spec, prompt, seed and the denoising steps.
        weights: one row a sample.
        prompt: the losses asked for.
    """

    spec: ForgetSpec
    seeds: tuple[int, ...]
    weights: Float[Any, "models params"]
    prompt: Prompt


class _Row(NamedTuple):
    """One sample that is to be drawn."""

    steps: int
    sampler: str
    seed: int
    losses: Float32[np.ndarray, " groups"]
    forgotten: Bool[np.ndarray, " groups"]


@dataclass(frozen=True)
class Sampler:
    """Samples weights of classifiers that behave as if retrained without a forget set.

    Args:
        prompts, signal: of NumPy arrays.
        orders: how many data orders the population was trained in. A sample's is drawn by its seed; one that is to stay near
            start weights is told none.
        shape: (tokens, token_width) of the weight space.
        params: weights of a classifier.
        denoise: noisy tokens, their times and what the denoiser is told to clean tokens.
        decode: tokens to weights.
        threads: that may compute at once.
    """

    prompts: PromptBook
    signal: LossSignal
    orders: int
    shape: tuple[int, int]
    params: int
    denoise: Callable[[Tokens, Float32[np.ndarray, " rows"], Float32[np.ndarray, "rows told"]], Tokens]
    decode: Callable[[Tokens], Float32[np.ndarray, "rows params"]]
    threads: int = 1

    def sample(self, wanted: Sequence[Wanted], start: Start | None = None) -> list[Samples]:
        """Samples of each that is wanted; those of the same number of steps are computed together.

        Raises:
            BadRequest: a loss that cannot be asked for, or a start time out of range.

        Warns:
            UserWarning: a loss outside the range of the population; names the range.
        """
        prompts = [self.prompts.prompt(one.spec, one.retain_loss, one.forget_loss) for one in wanted]
        rows = [
            _Row(one.steps, one.sampler, seed, prompt.losses, np.array(one.spec.mask))
            for one, prompt in zip(wanted, prompts, strict=True)
            for seed in one.seeds
        ]
        weights = np.empty((len(rows), self.params), np.float32)

        def draw(part: list[int]) -> None:
            weights[part] = self._draw([rows[index] for index in part], start)

        parts = _parts(rows, self.threads)
        if len(parts) > 1 and self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(draw, parts))
        else:
            for part in parts:
                draw(part)
        ends = np.cumsum([one.n for one in wanted])[:-1]
        found = zip(wanted, prompts, np.split(weights, ends), strict=True) if wanted else ()
        return [Samples(one.spec, one.seeds, own, prompt) for one, prompt, own in found]

    def _draw(self, rows: list[_Row], start: Start | None) -> Float32[np.ndarray, "rows params"]:
        """Weights of samples of one number of steps."""
        noises = {row.seed: SampleNoise(row.seed) for row in rows}  # of one seed it is drawn once, whatever the specs
        orders = {seed: noise.choose(self.orders) for seed, noise in noises.items()}
        order = np.array([orders[row.seed] for row in rows])
        if start is not None:
            order[:] = UNTOLD
        losses, forgotten = np.stack([row.losses for row in rows]), np.stack([row.forgotten for row in rows])
        told = condition(self.signal, self.orders, losses, forgotten, order)

        def draw() -> Tokens:
            drawn = {seed: noise.normal(self.shape) for seed, noise in noises.items()}
            return np.stack([drawn[row.seed] for row in rows])

        tokens = diffusion.sample(
            lambda noisy, time: self.denoise(noisy, time, told),
            draw,
            rows[0].steps,
            rows[0].sampler,
            None if start is None else start.tokens,
            1.0 if start is None else start.time,
        )
        return self.decode(tokens)


def _parts(rows: list[_Row], threads: int) -> list[list[int]]:
    """Rows that are computed at once, by index: of one kind, at most `TOGETHER`, and so few that every thread has some."""
    kinds: dict[tuple[int, str], list[int]] = {}
    for index, row in enumerate(rows):
        kinds.setdefault((row.steps, row.sampler), []).append(index)
    size = min(TOGETHER, ceil(len(rows) / threads)) or 1
    return [some[first : first + size] for some in kinds.values() for first in range(0, len(some), size)]
