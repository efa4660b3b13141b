from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import Tensor

from hf_mlops.serving.diffusion import SAMPLERS, add_noise, posterior_mean, sample


def test_noise_is_added_between_nothing_and_all() -> None:
    clean, noise = torch.ones(2, 3, 4), torch.full((2, 3, 4), 5.0)
    noisy = add_noise(clean, noise, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(noisy[0], clean[0])
    torch.testing.assert_close(noisy[1], noise[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_a_denoiser_that_knows_the_answer_is_followed(sampler: str, steps: int) -> None:
    answer, calls = torch.randn(4, 2, 3), []

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        calls.append(time)
        return answer

    assert torch.equal(sample(denoise, lambda: torch.randn(4, 2, 3), steps, sampler), answer)
    assert len(calls) == steps


@pytest.mark.parametrize(
    ("sampler", "second"),
    [
        ("ddim", [sqrt(0.5) * (3 + 1), sqrt(0.5) * (3 - 2)]),  # the noise there was: at time 1 that is all of x
        ("ddpm", [sqrt(0.5) * (3 + 10), sqrt(0.5) * (3 + 20)]),  # fresh noise alone: (1 - 0²) of it
    ],
)
def test_a_step_keeps_or_draws_afresh_the_noise(sampler: str, second: list[float]) -> None:
    """Two steps denoise at the times 1 and 1/2, where signal and noise both have the amplitude √½; x0 is predicted to be 3."""
    noise, seen = iter([torch.tensor([[1.0], [-2.0]]), torch.tensor([[10.0], [20.0]])]), []

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        seen.append((x, time))
        return torch.full_like(x, 3)

    assert sample(denoise, lambda: next(noise), 2, sampler).tolist() == [[3], [3]]
    assert [time.tolist() for _, time in seen] == [[1, 1], [0.5, 0.5]]
    torch.testing.assert_close(seen[0][0], torch.tensor([[1.0], [-2.0]]))
    torch.testing.assert_close(seen[1][0], torch.tensor(second)[:, None])


def test_a_later_step_draws_a_part_of_the_noise_afresh() -> None:
    """From time 2/3 to 1/3 the amplitudes of signal and noise change places, 1/2 and √3/2.

    Fresh is 1/√3 √(1 - 1/3) = √2/3, and √(1/4 - 2/9) = 1/6 is kept of the noise that 3 implies in x, (√3 - 3/2) / (√3/2).
    """
    noise, seen = iter([torch.tensor([[sqrt(3)]]), torch.tensor([[10.0]])]), []

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        seen.append(x)
        return torch.full_like(x, 3)

    sample(denoise, lambda: next(noise), 2, "ddpm", start_time=2 / 3)
    assert seen[1].item() == pytest.approx(sqrt(3) / 2 * 3 + (2 - sqrt(3)) / 6 + sqrt(2) / 3 * 10, rel=1e-5)


def test_a_start_is_given_the_noise_of_its_time() -> None:
    seen = []

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        seen.append((x, time))
        return x

    sample(denoise, lambda: torch.tensor([[1.0], [-2.0]]), 1, start=torch.tensor([[3.0]]), start_time=0.5)
    [(x, time)] = seen
    assert time.tolist() == [0.5, 0.5]
    torch.testing.assert_close(x, sqrt(0.5) * torch.tensor([[3.0 + 1], [3.0 - 2]]))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_draw_the_distribution_that_the_denoiser_is_of(sampler: str) -> None:
    """For normal data, here of mean 2 and standard deviation 0.5, the best denoiser is the posterior mean."""
    generator = torch.Generator().manual_seed(0)

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        return posterior_mean(x, torch.full_like(x, 2), torch.tensor(0.25), time)

    drawn = sample(denoise, lambda: torch.randn(20_000, 1, generator=generator), 200, sampler)
    assert drawn.mean().item() == pytest.approx(2, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)


def test_the_posterior_mean_is_what_is_seen_without_noise_and_the_mean_in_nothing_but_noise() -> None:
    noisy, mean, variance = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.rand(3, 4) + 0.1
    torch.testing.assert_close(posterior_mean(noisy, mean, variance, torch.zeros(2)), noisy)
    torch.testing.assert_close(posterior_mean(noisy, mean, variance, torch.ones(2)), mean, atol=1e-5, rtol=1e-5)


def test_a_start_with_little_noise_is_hardly_left() -> None:
    start = torch.full((4, 3), 7.0)

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        return posterior_mean(x, torch.zeros_like(x), torch.tensor(1.0), time)

    near, far = (sample(denoise, lambda: torch.randn(4, 3), 5, start=start, start_time=time) for time in (0.01, 1.0))
    assert (near - start).abs().max() < 0.5
    assert (far - start).abs().min() > 2


def test_an_unknown_sampler_and_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'euler'; allowed: ddim, ddpm"):
        sample(lambda x, time: x, lambda: torch.zeros(1, 1), 1, "euler")
    with pytest.raises(ValueError, match="steps = 0"):
        sample(lambda x, time: x, lambda: torch.zeros(1, 1), 0)


@pytest.mark.parametrize("time", [-0.5, 0.0, 1.5])
def test_an_impossible_start_time_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match=f"start_time = {time} is not allowed; allowed: above 0, up to 1"):
        sample(lambda x, time: x, lambda: torch.zeros(1, 1), 1, start_time=time)
