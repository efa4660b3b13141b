from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import isnan, log
from unittest.mock import ANY

import by_hand
import pytest
import torch
from by_hand import RIGHT, WRONG, measured, outputs, reference, spec

from hf_mlops import Audit, Gates, audit_samples

# Forget b: D_f is two images, D_r is five.
AUDIT = Audit(measured("b", "1 00 1111", "0 10 1110"), measured("b", "1 00 1110", "1 11 1000"))


def test_figures_are_means_over_samples_beside_the_references_on_the_sets_of_the_sample() -> None:
    assert AUDIT.figures() == pytest.approx(
        {
            "retain_accuracy": (5 / 5 + 3 / 5) / 2,
            "forget_accuracy": (0 + 1 / 2) / 2,
            "retain_loss": (8 * RIGHT + 2 * WRONG) / 10,
            "forget_loss": (RIGHT + 3 * WRONG) / 4,
            "reference_retain_accuracy": (4 / 5 + 2 / 5) / 2,
            "reference_forget_accuracy": (0 + 1) / 2,
            "reference_retain_loss": (6 * RIGHT + 4 * WRONG) / 10,
            "reference_forget_loss": (RIGHT + WRONG) / 2,
            "forget_divergence": log(4 / 3) / 2,  # from 1/2 and 1/2 to 1/4 and 3/4, on each image
            "reference_forget_divergence": log(3) / 2,  # from 1/4 and 3/4 to 3/4 and 1/4
        }
    )


def test_figures_of_one_sample_stand_beside_the_mean_of_the_whole_reference() -> None:
    assert AUDIT.figures(0) == pytest.approx(
        {
            **AUDIT.figures(),
            "retain_accuracy": 1,
            "forget_accuracy": 0,
            "retain_loss": RIGHT,
            "forget_loss": WRONG,
            "forget_accuracy_at_most": 1 - 0.05**0.5,  # of which chance has two images wrong in one of 20 times
        }
    )
    second = AUDIT.figures(1)
    assert second["retain_accuracy"] == pytest.approx(3 / 5) and second["forget_accuracy"] == 0.5
    assert second["retain_loss"] == pytest.approx((3 * RIGHT + 2 * WRONG) / 5)
    assert second["forget_accuracy_at_most"] == pytest.approx(0.95**0.5)  # of which one or two are right in 19 of 20 times


def test_nothing_forgotten_has_no_figures_on_d_f_and_passes_their_gate() -> None:
    evidence = Audit(measured("", "1 11 1111"), measured("", "1 11 1111"))
    assert evidence.figures() == pytest.approx(
        {"retain_accuracy": 1, "retain_loss": RIGHT, "reference_retain_accuracy": 1, "reference_retain_loss": RIGHT}
    )
    assert evidence.refused(Gates(0.0, 0.0)) == {}


def test_a_figure_equal_to_its_limit_passes() -> None:
    exact = Audit(measured("b", "0 10 1111"), measured("b", "1 00 1111"))  # 1/2 on D_f; 4/5 and 1 on D_r
    below = exact.figures()["reference_retain_accuracy"] - exact.figures()["retain_accuracy"]
    assert exact.refused(Gates(max_forget_gap=0.5, max_retain_gap=below)) == {}
    assert len(exact.refused(Gates(max_forget_gap=0.499, max_retain_gap=below))) == 1
    assert len(exact.refused(Gates(max_forget_gap=0.5, max_retain_gap=below - 0.001))) == 1


def test_failures_say_what_was_found_and_what_is_allowed() -> None:
    evidence = Audit(measured("b", "1 00 1111", "0 11 1110"), measured("b", "1 00 1110", "1 00 1111"))
    assert list(evidence.refused(Gates()).values()) == [
        "accuracy on D_f is 0.5000; allowed: at most 0.0100, which is 0.01 over the retrain reference",
        "accuracy on D_r is 0.8000; allowed: at least 0.8800, which is 0.02 under the retrain reference",
    ]
    assert evidence.refused(Gates(), 0) == {}
    assert list(evidence.refused(Gates(0.25, 0.125), 1).values()) == [
        "accuracy on D_f is 1.0000; allowed: at most 0.2500, which is 0.25 over the retrain reference",
        "accuracy on D_r is 0.6000; allowed: at least 0.7750, which is 0.125 under the retrain reference",
    ]


def test_what_retrained_targets_know_of_d_f_a_sample_may_know_and_what_chance_makes_of_it() -> None:
    """Of four images retrained targets have 2, 3 and 4 right: 3/4, with a standard deviation of 1/4."""
    retrained = measured("c", "1 11 1100", "1 11 1110", "1 11 1111")
    for gap, passes in ((0.0, True), (0.01, True)):
        assert (not Audit(measured("c", "1 11 1111"), retrained).refused(Gates(gap, 1.0))) == passes
    steady = measured("c", "1 11 1100", "1 11 1100")
    (refused,) = Audit(measured("c", "1 11 1110"), steady).refused(Gates(0.2, 1.0)).values()
    assert refused == "accuracy on D_f is 0.7500; allowed: at most 0.7000, which is 0.2 over the retrain reference"
    (refused,) = Audit(measured("c", "1 11 1111"), measured("c", "1 11 1100", "1 11 1000")).refused(Gates(0.01, 1.0)).values()
    assert refused.endswith("at most 0.7386, which is 0.01 over the retrain reference and what chance makes of it")


def test_a_loss_on_d_f_has_closed_a_part_of_the_way_from_the_original_to_retraining() -> None:
    """Mean losses on two images: of originals both right, of retrained ones both wrong, of the sample one of each."""
    retrained, original = measured("b", "1 00 1111", "1 00 1111"), measured("b", "1 11 1111")
    half, whole, none = (Audit(measured("b", marks), retrained, original) for marks in ("1 10 1111", "1 00 1111", "1 11 1111"))
    assert [audit.figures()["closed"] for audit in (half, whole, none)] == pytest.approx([0.5, 1, 0])
    assert [audit.figures()["forget_distance"] for audit in (half, whole, none)] == pytest.approx([0.5, 0, 1])
    assert "closed" not in Audit(measured("b", "1 00 1111"), retrained).figures()


def test_the_loss_of_retrained_ones_on_other_images_is_no_forgetting() -> None:
    retrained, original = measured("c", "1 11 0011", "1 11 0011"), measured("c", "1 11 1111")
    figures = Audit(measured("c", "1 11 1100"), retrained, original).figures()
    assert figures["closed"] == pytest.approx(1) and figures["forget_distance"] == 1


def test_where_retrained_answers_differ_too_much_loss_alone_tells_how_far_a_sample_is() -> None:
    """Retrained ones have one and two of four images wrong: answers of the original are a quarter farther off than theirs."""
    retrained, original = measured("c", "1 11 0011", "1 11 0111"), measured("c", "1 11 1111")
    figures = Audit(measured("c", "1 11 1100"), retrained, original).figures()
    assert 1.2 < figures["unforgotten_forget_divergence"] / figures["reference_forget_divergence"] < 1.3
    assert figures["closed"] == pytest.approx(4 / 3) and figures["forget_distance"] == pytest.approx(1 / 3)  # too far, as well
    assert "max_forget_distance" in Audit(original, retrained, original).refused(Gates())


def test_each_group_of_a_union_must_be_forgotten_not_only_the_whole_of_it() -> None:
    """Of a and c the four of c are forgotten, and a, a fifth of the images, is not."""
    retrained, original = measured("a,c", "0 11 0000", "0 11 0000"), measured("a,c", "1 11 1111")
    kept = Audit(measured("a,c", "1 11 0000", "0 11 0000"), retrained, original)
    assert kept.figures(0)["closed"] == pytest.approx(0.8) and kept.figures(0)["least_closed"] == pytest.approx(0)
    assert kept.refused(Gates(max_forget_gap=1), 0) == {
        "max_forget_distance": "loss on a, which is a part of D_f, has gone 0.0000 of the way to retraining;"
        " allowed: at least 0.25"
    }
    assert kept.refused(Gates(), 1) == {} and kept.figures(1)["least_closed"] == pytest.approx(1)
    assert kept.figures()["least_closed"] == pytest.approx(0.5) and kept.refused(Gates()) == {"max_forget_gap": ANY}
    assert "max_forget_distance" in kept.refused(Gates(max_forget_distance=0.99), 0)
    assert kept.refused(Gates(1, 1, 1), 0) == {}


def test_a_group_of_a_union_counts_if_retrained_ones_differ_less_on_all_of_its_groups_than_it_has_changed() -> None:
    """Where all images of a group wrong is 1, they differ by 1/2 on b and by 0 on c, by 0.35 in the root mean square.

    Half as much again is more than what has changed on b, 1/4, and what has on c, 1/2, but not the whole of c.
    """
    original = measured("b,c", "1 11 1111")
    short, long = (measured("b,c", f"1 01 {c}", f"1 11 {c}") for c in ("0011", "0000"))
    assert "least_closed" not in Audit(measured("b,c", "1 11 0111"), short, original).figures()
    assert Audit(measured("b,c", "1 11 0111"), long, original).figures()["least_closed"] == pytest.approx(0.25)
    assert "least_closed" not in Audit(measured("c", "1 11 0111"), long, original).figures()  # of which `closed` tells


def test_where_nobody_could_tell_a_distance_is_none_and_only_who_allows_any_lets_it_pass() -> None:
    """Of two images retrained ones have both wrong or both right, as the original has."""
    audit = Audit(measured("b", "1 00 1111"), measured("b", "1 00 1111", "1 11 1111"), measured("b", "1 11 1111"))
    assert isnan(audit.figures()["forget_distance"]) and audit.figures()["closed"] == pytest.approx(2)
    assert audit.refused(Gates(max_forget_distance=0.99)) == {
        "max_forget_distance": "distance from retraining on D_f cannot be told, since classifiers that forgot nothing are"
        " hardly farther from retrained ones than these from each other; allowed: at most 0.99"
    }
    assert audit.refused(Gates(max_forget_distance=1)) == {}
    apart = measured(
        "c", "1 11 1000", "1 11 1110"
    )  # three wrong and one, which is two from each other; the original is two off
    assert isnan(Audit(apart, apart, measured("c", "1 11 1111")).figures()["forget_distance"])


def test_the_share_that_passes_is_of_samples_judged_one_by_one() -> None:
    evidence = Audit(measured("b", "1 00 1111", "0 11 1110", "1 00 1111", "1 00 1111"), measured("b", "1 00 1110", "1 00 1111"))
    assert evidence.passed(Gates()) == 0.75 and evidence.passed(Gates(1.0, 1.0)) == 1


def test_a_figure_that_could_not_be_measured_fails() -> None:
    nobody = Audit(measured("c", "1 11", images="a bb"), measured("c", "1 11", images="a bb"))
    assert list(nobody.refused(Gates(1.0, 1.0)).values()) == [
        "accuracy on D_f is nan; allowed: at most nan, which is 1.0 over the retrain reference"
    ]
    nothing_kept = Audit(measured("b", "11", images="bb"), measured("b", "11", images="bb"))
    assert list(nothing_kept.refused(Gates(1.0, 1.0)).values()) == [
        "accuracy on D_r is nan; allowed: at least nan, which is 1.0 under the retrain reference"
    ]


@pytest.mark.parametrize("name", ["max_forget_gap", "max_retain_gap", "max_forget_distance"])
@pytest.mark.parametrize("value", [-0.01, 1.01, 2.0, float("nan")])
def test_gates_are_shares(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} = {value} is not allowed; allowed: 0 to 1$"):
        Gates(**{name: value})


def test_gates_may_be_as_tight_and_as_loose_as_a_share_can_be() -> None:
    tightest, loosest = Gates(0.0, 0.0), Gates(1.0, 1.0)
    assert tightest.max_retain_gap == 0 and loosest.max_forget_gap == 1
    assert Gates() == Gates(0.01, 0.02, 0.5)


def test_an_audit_runs_samples_on_the_test_split_beside_the_reference() -> None:
    judges = reference([("", "1 11 1111"), ("b", "1 00 1110"), ("b", "1 00 1111")])
    drawn = by_hand.samples("b", 0.1, 1.0, "1 00 1111", "0 10 1110")
    evidence = audit_samples(by_hand.target(), drawn, by_hand.dataset(), judges)
    assert evidence.sampled.spec == spec("b") == evidence.reference.spec
    torch.testing.assert_close(evidence.sampled.accuracies, torch.tensor([[1, 0, 1], [0, 0.5, 0.75]]))
    torch.testing.assert_close(evidence.reference.accuracies, torch.tensor([[1, 0, 0.75], [1, 0, 1]]))


@pytest.mark.parametrize(
    ("evidence", "field"),
    [
        (Gates(), "max_retain_gap"),
        (AUDIT, "sampled"),
        (AUDIT.sampled, "outputs"),
        (reference([("", "1 11 1111")]), "forgotten"),
        (outputs("1 11 1111"), "group_means"),
    ],
)
def test_evidence_is_not_altered_once_it_is_made(evidence: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(evidence, field, None)
