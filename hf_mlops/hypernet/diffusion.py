"""Gaussian diffusion with a denoiser that predicts x0, on the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.base.errors import BadRequest

SAMPLERS = {"ddim": 0.0, "ddpm": 1.0}  # share of the noise that is drawn afresh at every step (eta of arXiv 2010.02502)


def signal_and_noise(time: Float[Tensor, "*times"]) -> tuple[Float[Tensor, "*times"], Float[Tensor, "*times"]]:
    """Amplitudes of x0 and of the noise at times 0 (clean) to 1 (noise); their squares sum to 1."""
    return torch.cos(time * pi / 2), torch.sin(time * pi / 2)


def add_noise(
    clean: Float[Tensor, "#rows *shape"], noise: Float[Tensor, " rows *shape"], time: Float[Tensor, " rows"]
) -> Float[Tensor, " rows *shape"]:
    """x_t = signal * x0 + sigma * noise, with the amplitudes at each row's time."""
    signal, sigma = (part.view(-1, *[1] * (clean.ndim - 1)) for part in signal_and_noise(time))
    return signal * clean + sigma * noise


def posterior_mean(
    noisy: Float[Tensor, " rows *shape"],
    mean: Float[Tensor, " rows *shape"],
    variance: Float[Tensor, "*#shape"],
    time: Float[Tensor, " rows"],
) -> Float[Tensor, " rows *shape"]:
    """Expected x0 given x_t, for normal x0 of these means and variances.

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
    start: Float[Tensor, "#rows *shape"] | None = None,
    start_time: float = 1.0,
) -> Float[Tensor, " rows *shape"]:
    """Draws samples by walking from noise to x0; or from a noisy version of `start`, to stay near it.

    Four steps call `denoise` at the times 1, 3/4, 1/2 and 1/4. From each time to the next x_t is made anew, of the x0 that was
    predicted and the noise that it implies; a share of the noise is drawn afresh, if the sampler says so.

    Args:
        denoise: x_t (rows, ...) and times (rows,) to predicted x0 (rows, ...).
        noise: draws fresh standard normal noise (rows, ...).
        steps: how often `denoise` is called, from 1.
        sampler: a name in `SAMPLERS`.
        start: clean values to begin from, of one row or of each, noised to `start_time` (SDEdit, arXiv 2108.01073).
        start_time: above 0, up to 1.

    Raises:
        BadRequest: an unknown sampler, no step, or a start time out of range.
    """
    if sampler not in SAMPLERS:
        raise BadRequest(f"unknown sampler {sampler!r}; allowed: {', '.join(SAMPLERS)}")
    if steps < 1:
        raise BadRequest(f"steps = {steps} is not allowed; allowed: a whole number from 1")
    if not 0 < start_time <= 1:
        raise BadRequest(f"start_time = {start_time} is not allowed; allowed: above 0, up to 1")
    x = noise()
    times = torch.linspace(start_time, 0, steps + 1, device=x.device)[:-1]  # at 0 x is clean
    if start is not None:
        x = add_noise(start, x, times[:1].expand(len(x)))
    clean = denoise(x, times[0].expand(len(x)))
    for now, then in pairwise(times):
        (signal, sigma), (signal_then, sigma_then) = signal_and_noise(now), signal_and_noise(then)
        implied = (x - signal * clean) / sigma
        fresh = SAMPLERS[sampler] * sigma_then / sigma * (1 - (signal / signal_then) ** 2).clamp_min(0).sqrt()
        x = signal_then * clean + (sigma_then**2 - fresh**2).sqrt() * implied
        if SAMPLERS[sampler] > 0:
            x = x + fresh * noise()
        clean = denoise(x, then.expand(len(x)))
    return clean
