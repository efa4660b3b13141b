from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hf_mlops import Dataset, Target
from hf_mlops.targets import ARCHITECTURES


@pytest.fixture(params=list(ARCHITECTURES))
def target(request: pytest.FixtureRequest, digits: Dataset) -> Target:
    return Target.for_dataset(request.param, digits)


def test_a_state_dict_comes_back_exactly(target: Target) -> None:
    weights = target.initial_weights(3)
    state = target.unflatten(weights)
    target.module.load_state_dict(state)
    assert torch.equal(target.flatten(target.module.state_dict()), weights)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == target.shapes


def test_many_targets_at_once_give_the_logits_of_each_alone(target: Target, digits: Dataset) -> None:
    weights = torch.stack([target.initial_weights(seed) for seed in range(3)])
    together = target.logits(weights, digits.test.images[:20])
    for one, row in zip(weights, together, strict=True):
        alone = functional_call(target.module, target.unflatten(one), (digits.test.images[:20],))
        torch.testing.assert_close(row, alone)


def test_losses_and_accuracies_are_those_of_each_group(target: Target, digits: Dataset) -> None:
    weights = target.initial_weights(0)[None]
    losses, accuracies = target.group_metrics(weights, digits.test, 10)
    sevens = digits.test.labels == 7
    logits = target.logits(weights, digits.test.images[sevens])[0]
    torch.testing.assert_close(losses[0, 7], cross_entropy(logits, digits.test.labels[sevens]))
    torch.testing.assert_close(accuracies[0, 7], (logits.argmax(1) == 7).float().mean())


def test_an_initialisation_depends_on_its_seed_only(target: Target) -> None:
    torch.manual_seed(123)
    first = target.initial_weights(5)
    state = torch.get_rng_state()
    assert torch.equal(target.initial_weights(5), first)
    assert not torch.equal(target.initial_weights(6), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_target_is_made_again_from_its_description(target: Target) -> None:
    again = Target(**target.spec)
    assert again.spec == target.spec
    assert again.shapes == target.shapes


def test_weights_of_another_architecture_are_refused(digits: Dataset) -> None:
    mlp, cnn = (Target.for_dataset(name, digits) for name in ("mlp-16", "cnn"))
    with pytest.raises(ValueError, match="not the weights of mlp-16"):
        mlp.flatten(cnn.unflatten(cnn.initial_weights(0)))


def test_an_unknown_architecture_is_refused_with_the_names_there_are(digits: Dataset) -> None:
    with pytest.raises(ValueError, match="unknown architecture 'resnet-50'; allowed: mlp-16"):
        Target.for_dataset("resnet-50", digits)
