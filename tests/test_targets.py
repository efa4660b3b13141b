from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from own_networks import frozen
from torch.func import functional_call
from torch.nn.functional import conv2d, linear

from hf_mlops import Dataset, Target
from hf_mlops.base.errors import BadRequest
from hf_mlops.population import target as target_module
from hf_mlops.population.networks import ARCHITECTURES, _Linear, _StridedConv, in_one_line
from hf_mlops.serving.layout import named_in_module


@pytest.fixture(params=list(ARCHITECTURES))
def target(request: pytest.FixtureRequest, digits: Dataset) -> Target:
    return Target.for_dataset(request.param, digits)


def test_a_state_dict_comes_back_exactly(target: Target) -> None:
    weights = target.initial_weights(3)
    state = target.unflatten(weights)
    target.module.network.load_state_dict(target.state_dict(weights))
    assert torch.equal(target.flatten(target.module.network.state_dict()), weights)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == target.shapes


SIDES = st.integers(1, 3)


@given(
    shapes=st.lists(st.lists(SIDES, max_size=3).map(tuple), min_size=1, max_size=4),
    leading=st.lists(st.integers(0, 3), max_size=2).map(tuple),
)
def test_any_state_of_any_shapes_goes_into_weights_and_back(shapes: list[tuple[int, ...]], leading: tuple[int, ...]) -> None:
    named = {f"layer.{number}": shape for number, shape in enumerate(shapes)}
    target = Target("mlp-10", (1, 8, 8), 10, [0.0], [1.0], shapes=named, shared={})
    state = {name: torch.rand(leading + shape) for name, shape in named.items()}
    weights = target.flatten(dict(reversed(state.items())))
    assert weights.shape == (*leading, sum(prod(shape) for shape in shapes))
    assert torch.equal(weights, torch.cat([state[name].reshape(*leading, prod(named[name])) for name in named], -1))
    again = target.unflatten(weights)
    assert list(again) == list(named) and all(torch.equal(again[name], state[name]) for name in named)
    assert torch.equal(target.flatten(again), weights)


def test_many_targets_at_once_give_the_logits_of_each_alone(target: Target, digits: Dataset) -> None:
    weights = torch.stack([target.initial_weights(seed) for seed in range(3)])
    together = target.logits(weights, digits.test.images[:20])
    for one, row in zip(weights, together, strict=True):
        state = named_in_module(target.unflatten(one))
        torch.testing.assert_close(row, functional_call(target.module, state, (digits.test.images[:20],)))


def test_weights_times_images_is_what_a_linear_layer_computes() -> None:
    layer, images = _Linear(20, 3), torch.randn(5, 20)
    torch.testing.assert_close(layer(images), linear(images, layer.weight, layer.bias))


def test_an_initialisation_depends_on_its_seed_only(target: Target) -> None:
    torch.manual_seed(123)
    first = target.initial_weights(5)
    state = torch.get_rng_state()
    assert torch.equal(target.initial_weights(5), first)
    assert not torch.equal(target.initial_weights(6), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_target_is_made_again_from_its_description(target: Target) -> None:
    again = Target(**target.description)
    assert again.description == target.description
    assert again.shapes == target.shapes


def test_weights_of_another_architecture_are_refused(digits: Dataset) -> None:
    mlp, lenet = (Target.for_dataset(name, digits) for name in ("mlp-16", "lenet"))
    with pytest.raises(ValueError, match="not the weights of mlp-16"):
        mlp.flatten(lenet.unflatten(lenet.initial_weights(0)))


def test_an_unknown_architecture_is_refused_with_the_names_there_are(digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'resnet-50'; allowed: mlp-10, .*, resnet, or module:callable"):
        Target.for_dataset("resnet-50", digits)


def test_the_named_architectures_have_the_sizes_documented(digits: Dataset) -> None:
    sizes = {name: Target(name, (1, 28, 28), 10, [0.0], [1.0]).size for name in ARCHITECTURES}
    assert sizes == {"mlp-10": 7_960, "mlp-16": 12_730, "mlp-32": 25_450, "lenet": 5_784, "resnet": 43_870}
    method = (Path(__file__).parent.parent / "docs" / "method.md").read_text()
    assert all(f"`{name}` ({size:,}" in method for name, size in sizes.items())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 20)])
def test_every_architecture_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    for name in ARCHITECTURES:
        target = Target(name, shape, 5, [0.0] * shape[0], [1.0] * shape[0])
        assert target.logits(target.initial_weights(0)[None], torch.rand(3, *shape)).shape == (1, 3, 5)


def test_lenets_convolutions_are_those_of_torch() -> None:
    images, convolution = torch.rand(3, 2, 13, 17), _StridedConv(2, 5, 6, stride=2)
    expected = conv2d(images, convolution.weight, convolution.bias, stride=2)
    torch.testing.assert_close(convolution(images.permute(1, 2, 3, 0)).permute(3, 0, 1, 2), expected)


def test_more_models_than_run_at_once_have_the_same_logits(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.for_dataset("lenet", digits)
    weights = torch.stack([target.initial_weights(seed) for seed in range(5)])
    whole = target.logits(weights, digits.test.images[:50])
    monkeypatch.setattr(target_module, "PIXELS_AT_ONCE", {"cpu": 2 * 50 * 64})  # two models
    torch.testing.assert_close(target.logits(weights, digits.test.images[:50]), whole)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.nets:make", r"'no_such_package.nets:make' does not import: ModuleNotFoundError"),
        ("own_networks:no_such_name", "does not import: AttributeError.*no_such_name"),
        ("own_networks:not_callable", r"is torch.float32 \(9,\); allowed: a callable"),
        ("own_networks:raises", "raised RuntimeError.*the weights' file is missing.*when called with"),
        ("own_networks:no_module", "returned a value of type str; allowed: an nn.Module"),
        ("own_networks:with_its_transform", r"returned a tuple \(Sequential, Tensor\); allowed: an nn.Module"),
        ("own_networks:scripted", r"is scripted or traced \(torch.jit\); allowed: the nn.Module that it was made of"),
        ("own_networks:traced", r"is scripted or traced \(torch.jit\); allowed: the nn.Module that it was made of"),
        ("own_networks:lazy", "1.weight, 1.bias have no values yet .*run it on an image before returning it"),
        ("own_networks:without_values", "1.bias is on meta; allowed: cpu"),
        ("own_networks:for_inference", r"made in torch.inference_mode\(\).*; allowed: made outside of it"),
        ("own_networks:WithFeatures", r"answers 4 images with a tuple \(Tensor, Tensor\); allowed: torch.float32 \(4, 10\)"),
        ("own_networks:Named", "answers 4 images with a dict with the keys scores, features; allowed: torch.float32"),
        ("own_networks:Squeezed", r"a batch of 1 with torch.float32 \(10,\) \(squeeze\?\); allowed: torch.float32 \(1, 10\)"),
        ("own_networks:no_parameters", "has no parameters"),
        ("own_networks:double", r"1.weight is torch.float64; allowed: torch.float32"),
        ("own_networks:not_finite", r"1.bias has initial values that are not finite"),
        ("own_networks:tied", r"2.weight and 4.weight are one tensor"),
        (
            "own_networks:too_many_logits",
            r"answers 4 images with torch.float32 \(4, 11\); allowed: torch.float32 \(4, 10\)",
        ),
        ("own_networks:another_input", "its forward pass raised RuntimeError"),
        ("own_networks:in_training", r"changes its buffers body.1.running_mean.*\.eval\(\)"),
        ("own_networks:dropout", r"differ \(dropout\?\): call .eval\(\)"),
        ("own_networks:batch_statistics", "depends on the other images of the batch"),
        ("own_networks:branching", "torch.func.vmap cannot train many of it at once: .*control flow"),
        ("own_networks:idle", "its logits do not depend on unused: leave them out of the scope"),
        ("own_networks", "unknown architecture 'own_networks'; allowed: mlp-10"),
    ],
)
def test_a_network_that_cannot_be_a_target_is_refused_with_the_reason(name: str, message: str, digits: Dataset) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        Target.for_dataset(name, digits)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value) and "tensor(" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_long_error_of_a_users_code_is_told_by_its_first_paragraph() -> None:
    assert in_one_line(RuntimeError("one\n  two\n\nthree")) == "RuntimeError: one two"
    assert in_one_line(KeyError("x" * 400)) == f"KeyError: {repr('x' * 400)[:299]}…"
    assert in_one_line(ValueError("y" * 300)) == f"ValueError: {'y' * 300}"


def test_weights_are_refused_by_the_first_names_and_shapes_that_differ(digits: Dataset) -> None:
    target = Target.for_dataset("own_networks:Linear", digits)
    state = target.unflatten(target.initial_weights(0))
    odd = {**state, "temperature": state["temperature"].view(1), **{f"layer.{number}": torch.zeros(2) for number in range(20)}}
    with pytest.raises(BadRequest) as caught:
        target.flatten(odd)
    assert str(caught.value) == (
        "not the weights of own_networks:Linear: it has head.weight (10, 64), head.bias (10,), layer.0 (2,), layer.1 (2,),"
        " layer.2 (2,), layer.3 (2,), layer.4 (2,), layer.5 (2,) and 14 more; allowed here: head.weight (1, 10, 64),"
        " head.bias (1, 10)"
    )
    with pytest.raises(BadRequest, match=r"it has nothing; allowed here: temperature \(\), head.weight \(10, 64\)"):
        target.flatten({})


def test_only_parameters_in_scope_are_generated_and_all_else_is_shared(digits: Dataset) -> None:
    target = Target.for_dataset("own_networks:frozen", digits, "head.*, scale", seed=3)
    assert target.shapes == {"scale": (), "head.weight": (10, 36), "head.bias": (10,)}
    assert target.size == 371 and target.initial_weights(3)[0] == 1.5
    whole = target.state_dict(target.initial_weights(3))
    network = frozen(digits.input_shape, 10)
    assert whole.keys() == network.state_dict().keys()
    network.load_state_dict(whole)
    normalised = (digits.test.images - torch.tensor(target.mean)) / torch.tensor(target.std)
    torch.testing.assert_close(target.logits(target.initial_weights(3)[None], digits.test.images)[0], network(normalised))


@pytest.mark.parametrize("scope", ["haed.*", "head.*,boddy.*"])
def test_a_scope_without_parameters_is_refused_with_the_names_there_are(scope: str, digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"matches no parameter; allowed: patterns over scale, body.0.weight, .*head.bias"):
        Target.for_dataset("own_networks:frozen", digits, scope)


def test_what_is_out_of_scope_need_not_be_fit_to_be_generated(digits: Dataset) -> None:
    assert Target.for_dataset("own_networks:idle", digits, "1.*").size == 650


def test_a_network_that_changed_after_its_weights_were_made_is_refused(digits: Dataset) -> None:
    made = Target.for_dataset("own_networks:linear", digits)
    again = Target(**{**made.description, "architecture": "own_networks:frozen"}, shared=made.shared)
    with pytest.raises(ValueError, match=r"'own_networks:frozen' has changed: it has .*allowed here: .*1.weight"):
        again.logits(made.initial_weights(0)[None], digits.test.images)


def test_its_origin_follows_initial_values_and_shared_values(digits: Dataset) -> None:
    origins = {
        Target.for_dataset("own_networks:frozen", digits, scope, seed).initialisation_digest
        for scope in ("*", "head.*")
        for seed in (0, 1)
    }
    assert len(origins) == 4
    assert Target.for_dataset("own_networks:frozen", digits, "head.*", 1).initialisation_digest in origins
