"""Residual knowledge by hand: hidden layers that separate a class, or do not; answers of two or three images; and digits."""

from __future__ import annotations

from math import log

import by_hand
import numpy as np
import pytest
import torch
from own_networks import Shape
from torch import Tensor, nn

from hf_mlops import Dataset, ForgetSpec, Population, Target
from hf_mlops.audit.answers import agreement, entropy, mutual_information
from hf_mlops.audit.hidden import hidden, last_layer
from hf_mlops.audit.jackknife import jackknife, over, ratio
from hf_mlops.audit.masking import mask_classes
from hf_mlops.audit.measure import Measured, measure
from hf_mlops.audit.relearning import CAP, relearn, relearned
from hf_mlops.audit.residual import WAYS, Recover, few, nearest_prototype, probe, refit, residual
from hf_mlops.population.outputs import Outputs

LABELS = torch.arange(3).repeat_interleave(20)  # of sixty images


def apart() -> Tensor:
    """Hidden activations (60, 2) of three classes that lie in three corners."""
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    return corners[LABELS] + 0.3 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))


def merged() -> Tensor:
    """The same, but the first class lies on the second."""
    seen = apart()
    seen[:20] = seen[20:40].flip(0)
    return seen


def ends_in_relu(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes), nn.ReLU())


def ends_in_convolution(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(shape[0], classes, shape[1:]), nn.Flatten())


def headless(shape: Shape, classes: int) -> nn.Module:
    """Its last layer is defined first: what counts is which runs last."""
    network = nn.Module()
    network.head, network.body = nn.Linear(3, classes), nn.Linear(shape[1] * shape[2], 3)
    return Ordered(network)


class Ordered(nn.Module):
    def __init__(self, parts: nn.Module):
        super().__init__()
        self.parts = parts

    def forward(self, images: Tensor) -> Tensor:
        return self.parts.head(self.parts.body(images.flatten(1)).relu())


def test_the_hidden_layer_times_the_last_one_gives_the_logits() -> None:
    images = torch.rand(700, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for architecture, layer in (("mlp-16", "3"), ("lenet", "8"), ("test_residual:headless", "parts.head")):
        target = Target(architecture, (1, 16, 16), 10, [0.3], [0.2])
        weights = torch.stack([target.initial_weights(seed) for seed in range(2)])
        state = target.unflatten(weights)
        assert last_layer(target) == layer
        logits = hidden(target, weights, images) @ state[f"{layer}.weight"].mT + state[f"{layer}.bias"].unsqueeze(1)
        torch.testing.assert_close(logits, target.logits(weights, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "last"), [("ends_in_relu", r"1 \(Linear\)"), ("ends_in_convolution", r"0 \(Conv2d\)")]
)
def test_a_network_without_a_last_linear_layer_is_refused_in_words(architecture: str, last: str) -> None:
    target = Target(f"test_residual:{architecture}", (1, 8, 8), 10, [0.0], [1.0])
    with pytest.raises(
        ValueError, match=f"has no last layer that could be refitted: .* its last layer with parameters is {last}"
    ):
        hidden(target, target.initial_weights(0)[None], torch.rand(2, 1, 8, 8))


def test_a_probe_finds_a_class_that_the_hidden_layer_separates_and_none_that_it_merges() -> None:
    wanted = LABELS == 0
    assert probe(apart(), wanted, apart(), wanted) == 1
    assert 0.5 < probe(merged(), wanted, merged(), wanted) < 0.85  # told from the third class, not from the second
    flipped = torch.cat([wanted[30:], wanted[:30]])
    assert probe(apart(), wanted, apart(), flipped) < 0.5


@pytest.mark.parametrize("recover", [refit, nearest_prototype])
def test_few_images_bring_a_class_back_only_if_it_is_still_apart(recover: Recover) -> None:
    given = few(LABELS, 3, seed=0)
    assert torch.equal(recover(apart()[given], LABELS[given], apart()), LABELS)
    found = recover(merged()[given], LABELS[given], merged())
    assert (found[40:] == 2).all() and (found[:40] != 2).all()
    assert (found[:20] == LABELS[:20]).float().mean() < 0.9


def test_few_images_are_so_many_of_each_class_and_a_class_with_fewer_is_refused() -> None:
    labels = torch.tensor([2, 0, 2, 0, 0, 2, 7])
    assert sorted(labels[few(labels, 3, 1, at_most=True)].tolist()) == [0, 0, 0, 2, 2, 2, 7]
    assert few(LABELS, 5, 1).tolist() == few(LABELS, 5, 1).tolist() != few(LABELS, 5, 2).tolist()
    with pytest.raises(ValueError, match="3 images of each class are not to be had; class 7 has 1"):
        few(labels, 3, 1)


def test_a_curve_gives_the_accuracy_after_five_steps_and_the_steps_to_nine_tenths() -> None:
    curve = torch.tensor([[0, 0, 0.1, 0.2, 0.3, 0.4, 0.95], [0, 0.9, 0.8, 0.8, 0.8, 0.8, 1], [0, 0, 0, 0, 0, 0.1, 0.2]]).T
    found = {name: values.tolist() for name, values in relearned(curve).items()}
    assert found == {
        "relearnt, after 5 steps": pytest.approx([0.4, 0.8, 0.1]),
        "relearnt, steps to 90%": [6, 1, 6],
        "relearnt, not in 6 steps": [0, 0, 1],
    }


def measured(*answers: list[list[float]]) -> Measured:
    """Classifiers by their answers to two images of class 0, which is forgotten, and one of class 1."""
    labels = torch.tensor([0, 0, 1])
    return Measured(ForgetSpec.parse("a", ("a", "b", "c")), Outputs.of(torch.tensor(answers).log(), labels, labels, 3))


SURE = [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
OTHERWISE = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]  # on the first image
UNSURE = [[0.0, 0.5, 0.5], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]]


def test_entropy_is_of_the_images_in_d_f_and_what_is_shared_is_no_mutual_information() -> None:
    assert entropy(measured(SURE, UNSURE)).tolist() == pytest.approx([0, log(2)])
    assert mutual_information(measured(UNSURE, UNSURE)) == pytest.approx(0)
    assert mutual_information(measured(SURE, OTHERWISE)) == pytest.approx(log(2) / 2)  # they differ on one image of two


def test_agreement_is_with_each_of_the_others_and_not_with_itself() -> None:
    first, second = measured(SURE, OTHERWISE), measured(SURE, SURE, OTHERWISE)
    assert agreement(first, second).tolist() == pytest.approx([(1 + 1 + 0.5) / 3, (0.5 + 0.5 + 1) / 3])
    assert agreement(second, second).tolist() == pytest.approx([0.75, 0.75, 0.5])
    assert agreement(one := measured(SURE), one).isnan().all()


def test_a_jackknife_gives_the_standard_error_of_a_difference_and_leaves_out_what_is_not_there() -> None:
    judged, reference = np.array([1.0, 2.0, 4.0, np.nan]), np.array([0.0, 0.0, 1.0, 5.0])
    value, error = jackknife(over, judged, reference)
    assert value == pytest.approx(2) and error == pytest.approx(np.std([1, 2, 3], ddof=1) / 3**0.5)
    assert jackknife(ratio, judged, reference)[0] == pytest.approx(7)
    assert np.isnan(jackknife(over, judged[3:], reference[3:])).all()
    assert np.isnan(jackknife(over, judged[:1], reference[:1])[1])


@pytest.fixture(scope="module")
def spec(population: Population) -> ForgetSpec:
    return ForgetSpec.parse("1", population.groups.names)


@pytest.fixture(scope="module")
def retrained(population: Population, spec: ForgetSpec) -> Tensor:
    rows = population.reference & population.final & (population.forgotten == torch.tensor(spec.mask)).all(1)
    return population.weights[rows]


@pytest.fixture(scope="module")
def masked(population: Population, digits: Dataset, spec: ForgetSpec) -> Tensor:
    originals = population.weights[population.reference & population.final & ~population.forgotten.any(1)]
    return mask_classes(population.target, originals, spec, digits, loss=6.0)


def test_a_mask_has_the_loss_asked_for_and_answers_as_before_to_the_rest(
    population: Population, digits: Dataset, spec: ForgetSpec, masked: Tensor
) -> None:
    originals = population.weights[population.reference & population.final & ~population.forgotten.any(1)]
    found = measure(population.target, masked, spec, digits.train)
    torch.testing.assert_close(found.loss_on_sets()[1], torch.full((2,), 6.0))
    assert found.accuracy_on_sets()[1].max() < 0.01
    changed = (masked != originals).nonzero()[:, 1].unique()
    assert changed.tolist() == [population.target.size - 10 + 1]  # the bias of 1 alone


def test_a_class_without_a_generated_bias_cannot_be_masked(digits: Dataset, spec: ForgetSpec) -> None:
    target = Target.for_dataset("mlp-16", digits, scope="1.*")
    with pytest.raises(
        ValueError, match=r"no class can be masked: 3.bias is not among the generated parameters 1.weight, 1.bias"
    ):
        mask_classes(target, target.initial_weights(0)[None], spec, digits, 6.0)


def test_a_mask_gives_back_what_retrained_targets_do_not(
    population: Population, digits: Dataset, spec: ForgetSpec, retrained: Tensor, masked: Tensor
) -> None:
    fresh, hidden_only = (residual(population.target, some, spec, digits) for some in (retrained, masked))
    assert list(fresh) == ["probe, AUC", *WAYS]
    for name, values in fresh.items():
        assert hidden_only[name].mean() > values.mean(), name
    assert hidden_only["probe, AUC"].min() > 0.99
    again = residual(population.target, masked, spec, digits)
    assert all(torch.equal(again[name], values) for name, values in hidden_only.items())


def test_a_mask_is_relearnt_at_once(
    population: Population, digits: Dataset, spec: ForgetSpec, retrained: Tensor, masked: Tensor
) -> None:
    fresh, behind = (relearn(population.target, some, spec, digits) for some in (retrained, masked))
    assert fresh.shape == (CAP + 1, 2) and fresh[0].max() == behind[0].max() == 0
    steps = "relearnt, steps to 90%"
    assert relearned(behind)[steps].max() + 2 < relearned(fresh)[steps].min()
    assert relearned(behind)["relearnt, after 5 steps"].min() > 0.9


def test_nothing_and_groups_that_are_no_classes_leave_nothing_to_get_back(
    population: Population, digits: Dataset, retrained: Tensor
) -> None:
    for spec, data in ((ForgetSpec.parse("", digits.groups.names), digits), (by_hand.spec("a"), by_hand.dataset())):
        with pytest.raises(ValueError, match="there is nothing to be got back; allowed: a spec of one or more classes"):
            residual(population.target, retrained, spec, data)
