from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_mlops.diffusion import SAMPLERS, add_noise, precondition, sample


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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_draw_the_distribution_that_the_denoiser_is_of(sampler: str) -> None:
    """For data of mean 2 and standard deviation 0.5 the best denoiser is known."""
    generator = torch.Generator().manual_seed(0)

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        signal, sigma = torch.cos(time * torch.pi / 2)[:, None], torch.sin(time * torch.pi / 2)[:, None]
        return 2 + 0.25 * signal / (0.25 * signal**2 + sigma**2) * (x - signal * 2)

    drawn = sample(denoise, lambda: torch.randn(20_000, 1, generator=generator), 200, sampler)
    assert drawn.mean().item() == pytest.approx(2, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)


def test_the_linear_guess_is_exact_without_noise() -> None:
    noisy, output = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(precondition(noisy, output, torch.zeros(2)), noisy)
    torch.testing.assert_close(precondition(noisy, output, torch.ones(2)), output, atol=1e-6, rtol=1e-6)


def test_an_unknown_sampler_and_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'euler'; allowed: ddim, ddpm"):
        sample(lambda x, time: x, lambda: torch.zeros(1, 1), 1, "euler")
    with pytest.raises(ValueError, match="steps = 0"):
        sample(lambda x, time: x, lambda: torch.zeros(1, 1), 0)
