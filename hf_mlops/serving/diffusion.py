"""Gaussian diffusion with a denoiser that predicts x0, on the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import cos, pi, sin, sqrt
from typing import Any

from array_api_compat import array_namespace, device
from jaxtyping import Float

from hf_mlops.base.errors import BadRequest

SAMPLERS = {"ddim": 0.0, "ddpm": 1.0}  # share of the noise that is drawn afresh at every step (eta of arXiv 2010.02502)


def signal_and_noise(time: Float[Any, "*times"]) -> tuple[Float[Any, "*times"], Float[Any, "*times"]]:
    """Amplitudes of x0 and of the noise at times 0 (clean) to 1 (noise); their squares sum to 1."""
    xp = array_namespace(time)
    return xp.cos(time * pi / 2), xp.sin(time * pi / 2)


def add_noise(
    clean: Float[Any, "#rows *shape"], noise: Float[Any, " rows *shape"], time: Float[Any, " rows"]
) -> Float[Any, " rows *shape"]:
    """x_t = signal * x0 + sigma * noise, with the amplitudes at each row's time."""
    signal, sigma = (_along(part, clean) for part in signal_and_noise(time))
    return signal * clean + sigma * noise


def posterior_mean(
    noisy: Float[Any, " rows *shape"],
    mean: Float[Any, " rows *shape"],
    variance: Float[Any, "*#shape"],
    time: Float[Any, " rows"] | Float[Any, " rows *#shape"],
) -> Float[Any, " rows *shape"]:
    """Expected x0 given x_t, for normal x0 of these means and variances, and times of rows or of coordinates.

    A network that gives the mean need not learn to take the noise away: near time 0 the answer is x_t whatever the mean, so
    that many small steps do not add up small errors (EDM, arXiv 2206.00364, does so for a mean of 0 and a single variance).
    """
    signal, sigma = (_along(part, noisy) for part in signal_and_noise(time))
    gain = signal * variance / (signal**2 * variance + sigma**2)
    return mean + gain * (noisy - signal * mean)


def sample(
    denoise: Callable[[Any, Any], Any],
    noise: Callable[[], Any],
    steps: int,
    sampler: str = "ddim",
    start: Float[Any, "#rows *shape"] | None = None,
    start_time: float = 1.0,
) -> Float[Any, " rows *shape"]:
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
    check_sampler(sampler)
    if steps < 1:
        raise BadRequest(f"steps = {steps} is not allowed; allowed: a whole number from 1")
    if not 0 < start_time <= 1:
        raise BadRequest(f"start_time = {start_time} is not allowed; allowed: above 0, up to 1")
    x = noise()
    times = [start_time * (1 - step / steps) for step in range(steps)]  # at 0 x is clean
    if start is not None:
        x = add_noise(start, x, _of_rows(times[0], x))
    clean = denoise(x, _of_rows(times[0], x))
    for now, then in pairwise(times):
        signal, sigma, signal_then, sigma_then = (part(time * pi / 2) for time in (now, then) for part in (cos, sin))
        implied = (x - signal * clean) / sigma
        fresh = SAMPLERS[sampler] * sigma_then / sigma * sqrt(max(0.0, 1 - (signal / signal_then) ** 2))
        x = signal_then * clean + sqrt(sigma_then**2 - fresh**2) * implied
        if fresh > 0:
            x = x + fresh * noise()
        clean = denoise(x, _of_rows(then, x))
    return clean


def check_sampler(sampler: str) -> None:
    """Refuses a name that is not in `SAMPLERS`.

    Raises:
        BadRequest: such a name.
    """
    if sampler not in SAMPLERS:
        raise BadRequest(f"unknown sampler {sampler!r}; allowed: {', '.join(SAMPLERS)}")


def _along(amplitude: Float[Any, "rows ..."], values: Float[Any, ...]) -> Float[Any, "rows ..."]:
    """One number for each row, or coordinate, to multiply rows by."""
    if amplitude.ndim == values.ndim:
        return amplitude
    return array_namespace(amplitude).reshape(amplitude, (-1, *[1] * (values.ndim - 1)))


def _of_rows(time: float, x: Float[Any, " rows *shape"]) -> Float[Any, " rows"]:
    """The same time for each row."""
    return array_namespace(x).full((len(x),), time, dtype=x.dtype, device=device(x))
