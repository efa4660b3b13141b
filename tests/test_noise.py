"""No two streams are one, and the noise of a sample is what its definition says, computed without NumPy's generators."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hf_mlops import Dataset, Hypernetwork, PopulationConfig, retrain, train_population
from hf_mlops.base.noise import MAX_SEED, SampleNoise, generator_of, seed_of, torch_seed_of

WORD = 2**64 - 1
MULTIPLIERS, BUMPS = (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def philox(key: int) -> Iterator[int]:
    """Words of Philox 4x64-10 (Salmon et al. 2011), with the counter 1, 2, 3, ..."""
    counter = 0
    while True:
        counter += 1
        a, b, c, d = counter, 0, 0, 0
        first, second = key & WORD, key >> 64
        for _ in range(10):
            one, other = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
            a, b, c, d = (other >> 64) ^ b ^ first, other & WORD, (one >> 64) ^ d ^ second, one & WORD
            first, second = first + BUMPS[0] & WORD, second + BUMPS[1] & WORD
        yield from (a, b, c, d)


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_a_samples_noise_is_what_its_definition_says(seed: int) -> None:
    words, noise = philox(seed_of("sample", seed)), SampleNoise(seed)
    assert noise.choose(16) == 16 * next(words) // 2**64
    for given in noise.normal((4, 3)).reshape(-1, 2).tolist():
        u, v = ((next(words) >> 11) / 2**53 for _ in range(2))
        radius = math.sqrt(-2 * math.log1p(-u))
        assert given == [np.float32(radius * math.cos(2 * math.pi * v)), np.float32(radius * math.sin(2 * math.pi * v))]


def test_torch_computes_the_same_noise_from_the_same_words() -> None:
    words = np.random.Philox(key=seed_of("sample", 3)).random_raw(10_000)
    u, v = torch.from_numpy((words >> np.uint64(11)).astype(np.int64)).double().div(2**53).view(-1, 2).T
    radius, angle = (-2 * torch.log1p(-u)).sqrt(), 2 * torch.pi * v
    of_torch = torch.stack([radius * angle.cos(), radius * angle.sin()], 1).float().view(-1)
    given = SampleNoise(3).normal((10_000,))
    assert (of_torch.numpy() != given).mean() < 1e-3  # where a last bit of 64 decides the rounding to 32
    np.testing.assert_allclose(of_torch.numpy(), given, rtol=2e-7, atol=1e-12)


def test_noise_is_standard_normal() -> None:
    noise = np.concatenate([SampleNoise(seed).normal((501,)) for seed in range(200)])
    assert noise.dtype == np.float32 and abs(noise.mean()) < 0.02
    assert noise.var() == pytest.approx(1, abs=0.02) and (noise**4).mean() == pytest.approx(3, abs=0.15)
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.02


def test_each_choice_is_made_as_often() -> None:
    chosen = np.bincount([SampleNoise(seed).choose(5) for seed in range(20_000)])
    assert len(chosen) == 5 and chosen.min() > 3850 and chosen.max() < 4150


def test_streams_of_other_purposes_and_seeds_are_others() -> None:
    purposes = [(name, *numbers) for name in ("retrain", "population", "batch") for numbers in ((0, 1), (1, 0), (0, 2**32 + 1))]
    assert len({seed_of(*purpose) for purpose in purposes}) == 9
    assert seed_of("a", 11) != seed_of("a", 1, 1) and seed_of("a", 1) != seed_of("a", "1")
    assert len({generator_of(seed_of(*purpose)).random() for purpose in purposes}) == 9
    assert 0 <= torch_seed_of("denoiser", 0) < 2**32 and torch_seed_of("denoiser", 0) != torch_seed_of("initialisation", 0)


def test_no_stream_of_retraining_is_one_of_the_population(digits: Dataset) -> None:
    config = PopulationConfig(runs=8, train_steps=5, checkpoints=1, reference_runs=2, chunk=8)
    population = train_population(config, digits, "cpu")
    fresh = retrain(config, digits, population.forgotten[:8].repeat(12, 1), config.seed, "cpu")
    assert not (fresh[:, None] == population.weights).all(2).any()


def test_a_large_seed_is_not_a_small_one(hypernetwork: Hypernetwork) -> None:
    small, large = (hypernetwork.sample("7", seed=seed).weights for seed in (0, 2**32))
    assert not torch.equal(small, large)
