from __future__ import annotations

from dataclasses import replace
from math import isnan

import by_hand
import pytest
import torch
from by_hand import RIGHT, WRONG, measured, spec

from hf_mlops.audit.measure import Measured, at_most, measure
from hf_mlops.population.outputs import Outputs


def test_losses_are_cross_entropies_and_accuracies_are_shares_of_right_answers() -> None:
    one = measured("a", "1 10 1110", "0 11 1000")
    torch.testing.assert_close(one.accuracies, torch.tensor([[1, 0.5, 0.75], [0, 1, 0.25]]))
    half, most, least = (RIGHT + WRONG) / 2, (3 * RIGHT + WRONG) / 4, (RIGHT + 3 * WRONG) / 4
    torch.testing.assert_close(one.losses, torch.tensor([[RIGHT, half, most], [WRONG, RIGHT, least]]))
    assert one.predictions.tolist() == [[0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1, 1]]


def test_means_over_sets_are_those_over_their_images() -> None:
    one = measured("a", "1 10 1000", "0 11 1111")
    assert one.accuracy_on_sets().retain.tolist() == pytest.approx([2 / 6, 1])
    assert one.accuracy_on_sets().forget.tolist() == [1, 0]
    assert one.loss_on_sets().retain.tolist() == pytest.approx([(2 * RIGHT + 4 * WRONG) / 6, RIGHT])
    assert one.loss_on_sets().forget.tolist() == pytest.approx([RIGHT, WRONG])


def test_means_over_the_sets_of_another_spec_are_asked_for_by_it() -> None:
    one = measured("a", "1 10 1000")
    retain, forget = one.accuracy_on_sets(spec("b,c"))
    assert retain.item() == 1 and forget.item() == pytest.approx(2 / 6)
    retain, forget = one.accuracy_on_sets(spec(""))
    assert retain.item() == pytest.approx(3 / 7) and forget.isnan().all()


def test_training_images_that_stand_for_a_group_count_where_it_is_forgotten_and_nowhere_else() -> None:
    images, marks = by_hand.outputs("1 11 1010"), torch.tensor([False] * 5 + [True] * 2)
    one = Measured(spec("a"), replace(images, apart=marks))
    assert one.accuracy_on_sets().retain.item() == pytest.approx(3 / 4)  # of two images of b and two of c
    assert one.accuracy_on_sets(spec("c")).forget.item() == pytest.approx(2 / 4)
    assert one.accuracy_on_sets(spec("c")).retain.item() == 1
    assert one.churn(1 - images.predictions[0]).tolist() == [1]


def test_an_image_of_no_group_is_never_forgotten() -> None:
    groups = torch.tensor([0, 1, 1, 2, 2, 2, -1])
    images = Outputs.of(by_hand.log_probabilities("1 11 1110"), torch.zeros_like(groups), groups, 3)
    one = Measured(spec("b,c"), images)
    assert one.to_forget.tolist() == [False, True, True, True, True, True, False]
    assert one.accuracy_on_sets().retain.item() == pytest.approx(1 / 2) and one.accuracy_on_sets().forget.item() == 1
    assert images.accuracies.tolist() == [[1, 1, 1]]


def test_churn_is_the_share_of_kept_images_that_are_predicted_otherwise() -> None:
    one = measured("a", "1 11 1111", "0 11 1110", "1 00 1100")
    before = one.predictions[0]
    assert one.churn(before).tolist() == pytest.approx([0, 1 / 6, 4 / 6])  # of two images of b and four of c
    assert one.churn(before, spec("c")).tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert one.churn(before, spec("")).tolist() == pytest.approx([0, 2 / 7, 4 / 7])


def test_disagreement_is_the_mean_churn_between_two() -> None:
    assert measured("a", "1 11 1111", "0 11 1110").disagreement() == pytest.approx(1 / 6)
    three = measured("a", "1 11 1111", "0 11 1110", "1 00 1100")
    assert three.disagreement() == pytest.approx((1 / 6 + 4 / 6 + 3 / 6) / 3)
    assert three.disagreement(spec("c")) == pytest.approx((1 / 3 + 2 / 3 + 3 / 3) / 3)


def test_one_alone_disagrees_with_nobody() -> None:
    assert isnan(measured("a", "1 11 1111").disagreement())


def test_one_of_several_is_measured_as_it_was_among_them() -> None:
    several = measured("b", "1 11 1111", "0 11 1110", "1 00 1100")
    one = several.only(1)
    assert one.spec == spec("b") and one.accuracies.tolist() == [[0, 1, 0.75]]
    assert torch.equal(one.predictions, several.predictions[1:2])


def test_classifiers_are_run_on_the_split_given() -> None:
    data, weights = by_hand.dataset(), by_hand.weights("1 10 1110", "0 11 1000")
    on_test = measure(by_hand.target(), weights, spec("a,b"), data.test)
    torch.testing.assert_close(on_test.losses, measured("a,b", "1 10 1110", "0 11 1000").losses)
    assert on_test.spec == spec("a,b")
    on_validation = measure(by_hand.target(), weights, spec("a,b"), data.validation)  # all labels are the other
    torch.testing.assert_close(on_validation.accuracies, torch.tensor([[0, 0.5, 0.25], [1, 0, 0.75]]))


@pytest.mark.parametrize(
    ("share", "images", "bound"),
    [(0, 36, 0.0798), (1 / 36, 36, 0.1251), (0.5, 1000, 0.5265), (1, 4, 1), (0, 1, 0.95), (0, 10_000, 0.0003)],
)
def test_few_images_bound_a_share_loosely(share: float, images: int, bound: float) -> None:
    assert at_most(share, images) == pytest.approx(bound, abs=5e-5)


def test_no_image_bounds_nothing() -> None:
    assert isnan(at_most(0, 0))
