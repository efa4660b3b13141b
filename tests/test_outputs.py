from __future__ import annotations

from math import log

import by_hand
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_mlops import Dataset, Target
from hf_mlops.population import outputs as outputs_module
from hf_mlops.population import target as target_module
from hf_mlops.population.networks import ARCHITECTURES
from hf_mlops.population.outputs import Outputs

TWO_MODELS = torch.tensor(
    [
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.125, 0.75]],
        [[0.25, 0.25, 0.5], [0.25, 0.625, 0.125], [0.5, 0.375, 0.125]],
    ]
).log()
LABELS, GROUPS = torch.tensor([0, 2, 2]), torch.tensor([1, 1, 0])


def test_losses_accuracies_and_confidences_are_means_over_the_images_of_each_group() -> None:
    made = Outputs.of(TWO_MODELS, LABELS, GROUPS, 2)
    losses = [[-log(0.75), (log(2) + log(4)) / 2], [log(8), (log(4) + log(8)) / 2]]
    torch.testing.assert_close(made.losses, torch.tensor(losses))
    torch.testing.assert_close(made.accuracies, torch.tensor([[1, 0.5], [0, 0]]))
    torch.testing.assert_close(made.confidences, torch.tensor([[0.75, 0.5], [0.5, 0.5625]]))
    assert made.predictions.tolist() == [[0, 1, 2], [2, 1, 0]] and made.predictions.dtype == torch.int16


def test_a_group_without_an_image_has_no_mean() -> None:
    made = Outputs.of(TWO_MODELS, LABELS, GROUPS, 3)
    assert made.group_means.isnan().all(0).tolist() == [[False, False, True]] * 2


def test_a_class_that_is_left_out_has_an_endless_loss_in_its_groups_alone() -> None:
    made = Outputs.of(TWO_MODELS, LABELS, GROUPS, 2).without(torch.tensor([True, False, False]))
    assert made.losses.isinf().tolist() == [[False, True]] * 2  # label 0 is in group 1
    torch.testing.assert_close(made.losses[:, 0], torch.tensor([-log(0.75 / 0.875), -log(0.125 / 0.5)]))
    assert made.accuracies.isfinite().all()


def test_outputs_of_some_models_are_rows_of_those_of_all() -> None:
    made = Outputs.of(TWO_MODELS, LABELS, GROUPS, 2)
    for some in (made.only([1]), made.only(torch.tensor([False, True]))):
        assert torch.equal(some.log_probabilities, TWO_MODELS[1:]) and torch.equal(some.group_means, made.group_means[:, 1:])
        assert some.predictions.tolist() == [[2, 1, 0]]
        assert torch.equal(some.labels, LABELS) and torch.equal(some.groups, GROUPS)
    assert torch.equal(made.only([1, 0]).losses, made.losses.flip(0))


def test_outputs_go_to_numpy_and_back_whatever_was_looked_at_before() -> None:
    made = Outputs.of(TWO_MODELS, LABELS, GROUPS, 2)
    assert made.predictions.shape == made.image_losses.shape == (2, 3)  # worked out once, and kept
    there = made.each(np.asarray)
    assert isinstance(there.group_means, np.ndarray) and there.apart is None
    assert there.predictions.tolist() == made.predictions.tolist()
    again = there.each(torch.from_numpy)
    assert torch.equal(again.log_probabilities, made.log_probabilities) and torch.equal(again.losses, made.losses)


def test_targets_are_run_on_every_image() -> None:
    marks = "1 01 0110", "0 11 1111"
    made = Outputs.of_targets(by_hand.target(), by_hand.weights(*marks).requires_grad_(), by_hand.dataset().test, 3)
    torch.testing.assert_close(made.log_probabilities, by_hand.log_probabilities(*marks))
    assert made.predictions.tolist() == [[0, 1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    torch.testing.assert_close(made.losses, by_hand.outputs(*marks).losses)
    assert not made.log_probabilities.requires_grad and not made.losses.requires_grad


def test_means_are_summed_up_over_parts_of_512_images_which_populations_are_conditioned_on() -> None:
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(3, 1300, 10, generator=generator).log_softmax(-1)
    labels, groups = (torch.randint(0, most, (1300,), generator=generator) for most in (10, 7))
    share = torch.stack([(groups == g).float() / (groups == g).sum() for g in range(7)], 1)
    means = torch.zeros(3, 3, 7)
    for part in (slice(0, 512), slice(512, 1024), slice(1024, 1300)):
        confidence, predicted = answers[:, part].max(-1)
        loss = -torch.stack([row[torch.arange(len(row)), labels[part]] for row in answers[:, part]])
        means += torch.stack([loss, (predicted == labels[part]).float(), confidence.exp()]) @ share[part]
    assert torch.equal(Outputs.of(answers, labels, groups, 7).group_means, means)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_accuracies_are_those_of_each_group(architecture: str, digits: Dataset) -> None:
    target = Target.for_dataset(architecture, digits)
    weights = target.initial_weights(0)[None]
    made = Outputs.of_targets(target, weights, digits.test, 10)
    sevens = digits.test.labels == 7
    logits = target.logits(weights, digits.test.images[sevens])[0]
    torch.testing.assert_close(made.losses[0, 7], cross_entropy(logits, digits.test.labels[sevens]))
    torch.testing.assert_close(made.accuracies[0, 7], (logits.argmax(1) == 7).float().mean())
    torch.testing.assert_close(made.confidences[0, 7], logits.softmax(1).amax(1).mean())
    assert torch.equal(made.predictions[0, sevens], logits.argmax(1).to(torch.int16))


def test_more_models_and_images_than_run_at_once_give_the_same(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.for_dataset("lenet", digits)
    weights = torch.stack([target.initial_weights(seed) for seed in range(5)])
    whole = Outputs.of_targets(target, weights, digits.test, 10)
    monkeypatch.setattr(target_module, "PIXELS_AT_ONCE", {"cpu": 2 * 50 * 64})
    monkeypatch.setattr(target_module, "IMAGES_AT_ONCE", 50)
    monkeypatch.setattr(outputs_module, "SUMMED_AT_ONCE", 50)
    parts = Outputs.of_targets(target, weights, digits.test, 10)
    torch.testing.assert_close(parts.log_probabilities, whole.log_probabilities)
    torch.testing.assert_close(parts.group_means, whole.group_means)
