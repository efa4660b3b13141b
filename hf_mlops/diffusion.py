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


def precondition(noisy: Tensor, output: Tensor, time: Tensor) -> Tensor:
    """Predicted x0 from a network's raw output: the best linear guess for data of variance 1, plus a learned correction.

    Near time 0 the guess is already right, so that many small steps do not add up small errors (EDM, arXiv 2206.00364).
    """
    signal, sigma = (part.view(-1, *[1] * (noisy.ndim - 1)) for part in signal_and_noise(time))
    return signal * noisy + sigma * output


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor], noise: Callable[[], Tensor], steps: int, sampler: str = "ddim"
) -> Tensor:
    """Draws samples by walking from noise to x0 in `steps` steps.

    Args:
        denoise: (x_t (N, ...), times (N,)) -> predicted x0 (N, ...).
        noise: draws fresh standard normal noise (N, ...).
        steps: how often `denoise` is called, from 1.
        sampler: a name in `SAMPLERS`.

    Raises:
        ValueError: an unknown sampler, or no step.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; allowed: {', '.join(SAMPLERS)}")
    if steps < 1:
        raise ValueError(f"steps = {steps} is not allowed; allowed: a whole number from 1")
    x = noise()
    times = torch.linspace(1, 0, steps + 1, device=x.device)
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
