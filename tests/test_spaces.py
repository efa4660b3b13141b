from __future__ import annotations

import pytest
import torch

from hf_mlops import Population
from hf_mlops.hypernet.spaces import Latents, RawTokens, WeightSpace


@pytest.fixture(params=["latent", "raw"])
def space(request: pytest.FixtureRequest, population: Population) -> WeightSpace:
    if request.param == "raw":
        return RawTokens.fit(population.target, population.weights, 64, 32)
    return Latents.fit(population.target, population.weights, 16, 128)


def test_tokens_are_centred_and_scaled(space: WeightSpace, population: Population) -> None:
    tokens = space.encode(population.weights)
    assert tokens.shape == (len(population.weights), space.tokens, space.width)
    assert tokens.mean(0).abs().max() < 1e-9
    assert 0.5 < tokens.square().mean() < 1.1


def test_raw_tokens_give_a_state_dict_back_exactly(population: Population) -> None:
    space = RawTokens.fit(population.target, population.weights, 50, 64)
    state = population.target.unflatten(population.weights[7])
    weights = population.target.flatten(state)
    again = population.target.unflatten(space.decode(space.encode(weights[None]))[0])
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_long_rows_of_raw_tokens_enter_by_their_leading_directions(population: Population) -> None:
    weights, size = population.weights, population.target.size
    lost = []
    for components in (16, 32, 64):
        space = RawTokens.fit(population.target, weights, 32, components)
        again = space.decode(space.encode(weights))
        assert torch.equal(again[:, 64 * 16 :], weights[:, 64 * 16 :])  # only the first layer has rows longer than 16
        lost.append(float((again - weights).square().sum() / (weights - weights.mean(0)).square().sum()))
    assert lost[0] > lost[1] > lost[2] == 0
    assert lost[1] < 0.1
    assert space.mean.shape == (size,)


def test_latents_give_back_what_lies_in_their_span(population: Population) -> None:
    weights = population.weights
    all_components = Latents.fit(population.target, weights, 10, weights.shape[1])
    torch.testing.assert_close(all_components.decode(all_components.encode(weights[:20])), weights[:20], rtol=0, atol=1e-5)
    fewer = Latents.fit(population.target, weights, 16, 128)
    lost = (fewer.decode(fewer.encode(weights)) - weights).square().sum() / (weights - weights.mean(0)).square().sum()
    assert float(lost) == pytest.approx(1 - float(fewer.variance_kept), rel=0.01)
    assert fewer.variance_kept > 0.9


def test_decoding_is_differentiable(space: WeightSpace) -> None:
    tokens = torch.zeros(1, space.tokens, space.width, requires_grad=True)
    space.decode(tokens).sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0


def test_a_token_wider_than_the_space_is_refused(population: Population) -> None:
    with pytest.raises(ValueError, match="token_width = 5000"):
        Latents.fit(population.target, population.weights, 5000, 128)
