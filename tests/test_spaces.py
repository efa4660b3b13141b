from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hf_mlops import Population
from hf_mlops.hypernet.spaces import Latents, RawTokens, Stack, WeightSpace
from hf_mlops.population.target import Target

QUICK = settings(max_examples=25)
SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=4).map(tuple), min_size=1, max_size=4)  # of tensors; () is a number


def target_of(shapes: list[tuple[int, ...]]) -> Target:
    return Target("any", (1, 1, 1), 2, [0.0], [1.0], shapes={str(i): shape for i, shape in enumerate(shapes)}, shared={})


def weights_of(target: Target, models: int, seed: int) -> Tensor:
    return torch.randn(models, target.size, generator=torch.Generator().manual_seed(seed))


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


def test_a_tensor_is_a_stack_of_the_rows_of_its_units() -> None:
    assert Stack.of((16, 64), 128) == Stack(rows=16, length=64, kept=64)
    assert Stack.of((16, 8, 3, 3), 32) == Stack(rows=16, length=72, kept=32)
    assert Stack.of((16,), 8) == Stack(rows=1, length=16, kept=8)
    assert Stack.of((), 8) == Stack(rows=1, length=1, kept=1)
    assert (Stack(16, 64, 32).weights, Stack(16, 64, 32).coordinates) == (1024, 512)


def test_each_tensor_begins_a_token_and_the_last_of_its_tokens_is_padded() -> None:
    """Two rows of three weights and a bias of two, in tokens of four: two tokens and one."""
    weights = torch.tensor([[1.0, 1, 1, 1, 1, 1, 5, 5], [-1, -1, -1, -1, -1, -1, -5, -5]])
    space = RawTokens.fit(target_of([(2, 3), (2,)]), weights, width=4, components=3)
    assert space.encode(weights)[0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_rows_that_are_too_long_enter_by_the_direction_in_which_they_vary() -> None:
    """Two rows of two weights, which all vary along (3, 4) / 5: by 5, -5, 10 and -10, so by the root of 62.5."""
    weights = torch.tensor([[3.0, 4, 6, 8], [-3.0, -4, -6, -8]])
    space = RawTokens.fit(target_of([(2, 2)]), weights, width=2, components=1)
    tokens = space.encode(weights)
    torch.testing.assert_close(tokens[0].abs(), torch.tensor([[5.0, 10.0]]).double() / 62.5**0.5)
    torch.testing.assert_close(space.decode(tokens), weights)
    off = torch.tensor([[3.0 - 4, 4 + 3, 6, 8]])  # what lies across the direction is lost
    torch.testing.assert_close(space.decode(space.encode(off)), weights[:1])


@QUICK
@given(SHAPES, st.integers(1, 9), st.integers(2, 6), st.integers(0, 99))
def test_raw_tokens_that_keep_everything_give_any_weights_back_exactly(
    shapes: list[tuple[int, ...]], width: int, models: int, seed: int
) -> None:
    target = target_of(shapes)
    longest = max(map(prod, shapes))
    space = RawTokens.fit(target, weights_of(target, models, seed), width, components=longest)
    others = weights_of(target, 3, seed + 1)
    tokens = space.encode(others)
    assert tokens.shape == (3, space.tokens, width)
    assert torch.equal(space.decode(tokens), others)


@QUICK
@given(SHAPES, st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_raw_tokens_of_few_directions_give_back_what_lies_in_their_span(
    shapes: list[tuple[int, ...]], width: int, components: int, seed: int
) -> None:
    target = target_of(shapes)
    space = RawTokens.fit(target, weights_of(target, 20, seed), width, components)
    spanned = space.decode(space.encode(weights_of(target, 3, seed + 1)))
    torch.testing.assert_close(space.decode(space.encode(spanned)), spanned, rtol=0, atol=1e-5)


@QUICK
@given(SHAPES, st.integers(2, 20), st.data())
def test_latents_give_any_weights_in_their_span_back(shapes: list[tuple[int, ...]], models: int, data: st.DataObject) -> None:
    target = target_of(shapes)
    components = data.draw(st.integers(1, min(models - 1, target.size)))
    width = data.draw(st.integers(1, components))
    seed = data.draw(st.integers(0, 99))
    space = Latents.fit(target, weights_of(target, models, seed), width, components)
    assert space.tokens == components // width
    generator = torch.Generator().manual_seed(seed)
    spanned = space.decode(torch.randn(3, space.tokens, width, generator=generator))
    torch.testing.assert_close(space.decode(space.encode(spanned)), spanned, rtol=0, atol=1e-4)
