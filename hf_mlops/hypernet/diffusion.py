"""Gaussian diffusion with a denoiser that predicts x0, on the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import pi

import torch
from torch import Tensor

SAMPLERS = {"ddim": 0.0, "ddpm": 1.0}  # share of the noise that is drawn afresh at every step (eta of arXiv 2010.02502)


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitudes of x0 and of the noise at times 0 (clean) to 1 (noise); their squares sum to 1."""
    return torch.cos(time * pi / 2), torch.sin(time * pi / 2)


def add_noise(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t of x0 (N, ...), noise of the same shape and times (N,)."""
    signal, sigma = (part.view(-1, *[1] * (clean.ndim - 1)) for part in signal_and_noise(time))
    return signal * clean + sigma * noise


def posterior_mean(noisy: Tensor, mean: Tensor, variance: Tensor, time: Tensor) -> Tensor:
    """Expected x0 given x_t (N, ...) at times (N,), for normal x0 of these means (N, ...) and variances (...).

    A network that gives the mean need not learn to take the noise away: near time 0 the answer is x_t whatever the mean, so
    that many small steps do not add up small errors (EDM, arXiv 2206.00364, does so for a mean of 0 and a single variance).
    """
    signal, sigma = (part.view(-1, *[1] * (noisy.ndim - 1)) for part in signal_and_noise(time))
    gain = signal * variance / (signal**2 * variance + sigma**2)
    return mean + gain * (noisy - signal * mean)


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Callable[[], Tensor],
    steps: int,
    sampler: str = "ddim",
    start: Tensor | None = None,
    start_time: float = 1.0,
) -> Tensor:
    """Draws samples by walking from noise to x0 in `steps` steps; or from a noisy version of `start`, to stay near it.

    Args:
        denoise: (x_t (N, ...), times (N,)) -> predicted x0 (N, ...).
        noise: draws fresh standard normal noise (N, ...).
        steps: how often `denoise` is called, from 1.
        sampler: a name in `SAMPLERS`.
        start: (N, ...) clean values to begin from, noised to `start_time` (SDEdit, arXiv 2108.01073); above 0, up to 1.

    Raises:
        ValueError: an unknown sampler, no step, or a start time out of range.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; allowed: {', '.join(SAMPLERS)}")
    if steps < 1:
        raise ValueError(f"steps = {steps} is not allowed; allowed: a whole number from 1")
    if not 0 < start_time <= 1:
        raise ValueError(f"start_time = {start_time} is not allowed; allowed: above 0, up to 1")
    x = noise()
    times = torch.linspace(start_time, 0, steps + 1, device=x.device)
    if start is not None:
        x = add_noise(start, x, times[:1].expand(len(x)))
    for now, then in pairwise(times):
        clean = denoise(x, now.expand(len(x)))
        (signal, sigma), (signal_then, sigma_then) = signal_and_noise(now), signal_and_noise(then)
        if then == 0:
            return clean
        implied = (x - signal * clean) / sigma
        fresh = SAMPLERS[sampler] * sigma_then / sigma * (1 - (signal / signal_then) ** 2).clamp_min(0).sqrt()
        x = signal_then * clean + (sigma_then**2 - fresh**2).sqrt() * implied
        if SAMPLERS[sampler] > 0:
            x = x + fresh * noise()
    raise AssertionError("the last step returns")
