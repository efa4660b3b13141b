"""Rivals: each does what its paper says, and how they are ranked is worked out by hand."""

from __future__ import annotations

import sys

import by_hand
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks.rival.dampening import dampen, dampened, importance
from benchmarks.rival.descents import bad_teacher, forget_slope, relabelled, salient
from benchmarks.rival.figures import Classifiers, churn, figures, membership
from benchmarks.rival.methods import FINE_TUNE, MASK, METHODS
from benchmarks.rival.ranking import fastest_as_good, floor, gap, ranked
from benchmarks.rival.request import Request, Term, descend, sets_of
from benchmarks.rival.tuning import objective, tuned
from hf_mlops import Dataset, ForgetSpec, Population, Split
from hf_mlops.audit.measure import Measured, measure

NAMES = tuple("0123456789")
PAIR = ForgetSpec.parse("4,9", NAMES)
FORGOTTEN = torch.tensor(PAIR.mask)  # of the classes


@pytest.fixture(scope="module")
def request_for_a_pair(population: Population, digits: Dataset) -> Request:
    """Of two classifiers in production, to forget 4 and 9."""
    rows = population.reference & population.final & ~population.forgotten.any(1)
    return Request.of(population.target, population.weights[rows][:2], PAIR, digits.train, population.config)


def losses(request: Request, weights: Tensor, split: Split) -> Tensor:
    """Mean cross-entropy of each classifier."""
    return Term(split).loss(request.target, weights, torch.arange(len(split))).detach()


def test_a_request_holds_the_training_images_of_d_r_and_of_d_f(request_for_a_pair: Request, digits: Dataset) -> None:
    retain, forget = request_for_a_pair.retain, request_for_a_pair.forget
    assert set(forget.labels.tolist()) == {4, 9} and set(retain.labels.tolist()) == set(range(10)) - {4, 9}
    assert len(retain) + len(forget) == len(digits.train)


def test_a_request_that_forgets_nothing_is_refused(population: Population, digits: Dataset) -> None:
    nothing = ForgetSpec.of([], NAMES)
    with pytest.raises(ValueError, match="the forget spec is empty: a rival has nothing to forget"):
        Request.of(population.target, population.weights[:1], nothing, digits.train, population.config)


@pytest.mark.parametrize("name", METHODS)
def test_a_rival_gives_finite_weights_and_leaves_production_as_it_was(name: str, request_for_a_pair: Request) -> None:
    before = request_for_a_pair.weights.clone()
    after = METHODS[name](request_for_a_pair)
    assert after.shape == before.shape and after.isfinite().all() and not after.requires_grad
    torch.testing.assert_close(request_for_a_pair.weights, before, rtol=0, atol=0)
    assert torch.equal(after, before) == (name == MASK)


@pytest.mark.parametrize("name", METHODS)
def test_hyperparameters_out_of_their_range_or_unknown_are_refused(name: str, request_for_a_pair: Request) -> None:
    with pytest.raises(ValueError, match="unknown hyperparameter 'momentum'; allowed: "):
        METHODS[name](request_for_a_pair, momentum=0.5)
    for which, one in METHODS[name].ranges.items():
        assert one.low <= one.default <= one.high
        for value in (one.low / 2, one.high * 2):
            with pytest.raises(ValueError, match=f"{which} = {value!r} is not allowed; allowed: {one.low:g} to {one.high:g}"):
                METHODS[name](request_for_a_pair, **{which: value})


def test_the_same_seed_forgets_in_the_same_way_and_another_in_another(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    other = Request(one.target, one.weights, one.retain, one.forget, one.config, seed=1)
    first, again, different = (METHODS["random labels"](request) for request in (one, one, other))
    assert torch.equal(first, again) and not torch.equal(first, different)


def test_fine_tuning_lowers_the_loss_on_d_r_and_gradient_ascent_raises_that_on_d_f(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    fine, risen = METHODS[FINE_TUNE](one), METHODS["gradient ascent"](one, effort=0.05)
    assert (losses(one, fine, one.retain) < losses(one, one.weights, one.retain)).all()
    assert (losses(one, risen, one.forget) > 2 * losses(one, one.weights, one.forget)).all()


def test_neg_grad_does_both(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    after = METHODS["NegGrad+"](one)
    assert (losses(one, after, one.forget) > 10 * losses(one, one.weights, one.forget)).all()
    assert (
        losses(one, after, one.retain) < losses(one, METHODS["gradient ascent"](one, effort=0.1, rate=1.0), one.retain)
    ).all()


def test_classifiers_forget_as_if_each_were_alone(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    alone = Request(one.target, one.weights[:1], one.retain, one.forget, one.config, one.seed)
    for name in ("SalUn", "l1-sparse", "selective synaptic dampening"):
        torch.testing.assert_close(METHODS[name](alone), METHODS[name](one)[:1], rtol=1e-2, atol=1e-3)


def test_wrong_labels_are_those_of_classes_that_stay(request_for_a_pair: Request) -> None:
    labels = relabelled(request_for_a_pair).labels
    assert set(labels.tolist()) == set(range(10)) - {4, 9}
    assert torch.bincount(labels, minlength=10)[0] < len(labels) / 4


def test_where_a_group_is_no_class_a_wrong_label_is_not_the_right_one() -> None:
    images = by_hand.dataset().train
    retain, forget = sets_of(Split(images.images, torch.tensor([0, 0, 0, 1, 1, 0, 1]), images.groups), by_hand.spec("c"))
    request = Request(by_hand.target(), by_hand.weights("1" * 7), retain, forget, by_hand.reference([("a", "1" * 7)]).config, 0)
    with pytest.raises(ValueError, match="no class of D_r is wrong"):
        relabelled(request)


def test_saliency_keeps_exactly_the_share_asked_for_and_the_steepest_of_all(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    kept, slope = salient(one, 0.3), forget_slope(one.target, one.weights, one.forget).abs()
    assert kept.sum(1).tolist() == [round(0.3 * one.target.size)] * 2
    assert (slope.where(kept, torch.inf).amin(1) >= slope.where(~kept, -torch.inf).amax(1)).all()


def test_salun_changes_no_other_weight(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    changed = METHODS["SalUn"](one, share=0.3) != one.weights
    kept = salient(one, 0.3)
    assert not (changed & ~kept).any() and changed.sum() > 0.9 * kept.sum()


def test_an_l1_penalty_brings_weights_to_nothing(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    terms = [Term(one.retain)]
    plain, sparse = (descend(one, terms, effort=0.1, rate=1.0, l1=penalty).abs() for penalty in (0.0, 1e-2))
    assert ((sparse < 1e-3).float().mean(1) > 1.5 * (plain < 1e-3).float().mean(1)).all()
    assert (sparse.sum(1) < 0.9 * plain.sum(1)).all()


def test_a_bad_teacher_leaves_d_f_to_chance(request_for_a_pair: Request) -> None:
    one = request_for_a_pair
    answers = one.target.logits(bad_teacher(one, effort=0.3, rate=1.0), one.forget.images).softmax(-1)
    assert answers.amax(-1).mean() < 0.5 < one.target.logits(one.weights, one.forget.images).softmax(-1).amax(-1).mean()


def test_dampening_by_hand() -> None:
    """The first matters to D_f less than alpha = 2 times as much as to all; the others more, and shrink to 0.5 * 1 / 4."""
    weights, forget, whole = torch.tensor([8.0, -8.0, 8.0]), torch.tensor([2.0, 4.0, 4.0]), torch.tensor([1.0, 1.0, 0.0])
    assert dampened(weights, forget, whole, alpha=2, damping=0.5).tolist() == [8, -1, 0]
    assert dampened(weights, forget, whole, alpha=2, damping=100).tolist() == [8, -8, 0]  # nothing grows


def test_importance_is_the_mean_of_squared_gradients_image_by_image() -> None:
    """A linear network that gives 3/4 to class 0 on every image, and is right: the gradient of a bias is 3/4 less 1."""
    images, weights = by_hand.dataset().test, by_hand.weights("1111111")
    found = by_hand.target().unflatten(importance(by_hand.target(), weights[0], images))
    torch.testing.assert_close(found["1.bias"], torch.tensor([1 / 16, 1 / 16]))
    torch.testing.assert_close(found["1.weight"], torch.full((2, 7), 1 / 16 / 7))


def test_dampening_shrinks_what_only_d_f_needs() -> None:
    """Each pixel belongs to one image: those of D_f are as often needed by D_f as by no other, 7 images to 2."""
    data, weights = by_hand.dataset().test, by_hand.weights("1111111")
    retain, forget = sets_of(data, by_hand.spec("b"))
    request = Request(by_hand.target(), weights, retain, forget, by_hand.reference([("a", "1" * 7)]).config, 0)
    before, after = (request.target.unflatten(one[0])["1.weight"] for one in (weights, dampen(request, 3.0, 1.0)))
    torch.testing.assert_close(after / before, torch.tensor([1, 2 / 7, 2 / 7, 1, 1, 1, 1]).expand(2, -1))
    torch.testing.assert_close(dampen(request, 4.0, 1.0), weights)


def test_masked_classes_are_never_predicted(request_for_a_pair: Request, digits: Dataset) -> None:
    one = request_for_a_pair
    plain, masked = (Classifiers(one.target, METHODS[MASK](one), PAIR, hidden).on(digits.test) for hidden in (None, FORGOTTEN))
    assert not torch.isin(masked.predictions, torch.tensor([4, 9], dtype=torch.int16)).any()
    others = ~torch.isin(plain.predictions, torch.tensor([4, 9], dtype=torch.int16))
    assert torch.equal(masked.predictions[others], plain.predictions[others])


def test_membership_is_the_share_of_pairs_in_which_the_image_trained_on_has_the_lower_loss() -> None:
    """In D_f: right and wrong on two images trained on, against right and right or wrong and wrong; ties count a half."""
    train, test = by_hand.measured("b", "1 10 1111", "1 10 1111"), by_hand.measured("b", "1 11 1111", "1 00 1111")
    assert membership(train, test).tolist() == [0.25, 0.75]


def test_churn_is_held_against_a_classifiers_own_or_else_against_all() -> None:
    """Two that forgot b, D_r being five images; the first is as before, the second differs in one."""
    after, before = by_hand.measured("b", "1 00 1111", "1 00 1110"), by_hand.measured("b", "1 11 1111", "1 11 1111")
    assert churn(after, before).tolist() == pytest.approx([0, 0.2])
    assert churn(after, by_hand.measured("b", "1 11 1111", "1 11 1111", "1 11 1100")).tolist() == pytest.approx([2 / 15, 1 / 5])


def test_a_mask_falls_away_when_it_is_relearned(request_for_a_pair: Request, digits: Dataset) -> None:
    one, production = request_for_a_pair, measure(request_for_a_pair.target, request_for_a_pair.weights, PAIR, digits.test)
    found = figures(Classifiers(one.target, METHODS[MASK](one), PAIR, FORGOTTEN), production, production, digits, 0)
    assert found["accuracy on D_f"] == [0, 0] and min(found["accuracy on D_f, relearned"]) > 0.9


def test_what_is_tuned_is_the_sum_of_both_gaps_and_the_divergence() -> None:
    """Retrained, half right on D_f and 4 of 5 on D_r; judged, all right. On D_f wanted is 1/2, given 3/4."""
    retrained = by_hand.measured("b", "1 10 1110", "1 01 1110")
    expected = 0.5 + 0.2 + torch.tensor(4 / 3).log().item() / 2
    assert objective(by_hand.measured("b", "1 11 1111"), retrained) == pytest.approx(expected, abs=1e-6)
    nan = by_hand.measured("b", "1 11 1111").outputs
    broken = Measured(by_hand.spec("b"), type(nan).of(nan.log_probabilities * torch.nan, nan.labels, nan.groups, 3))
    assert objective(broken, retrained) == float("inf")


def test_tuning_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"Optuna, which is not installed: pip install 'hf_mlops\[bench\]'"):
        tuned(FINE_TUNE, METHODS[FINE_TUNE], lambda chosen: 0.0, 1, 0)


def test_tuning_tries_the_defaults_first_and_keeps_the_best_of_all() -> None:
    tried: list[dict[str, float]] = []

    def judge(chosen: dict[str, float]) -> float:
        tried.append(chosen)
        return abs(chosen["effort"] - 0.02)

    found = tuned(FINE_TUNE, METHODS[FINE_TUNE], judge, 8, 0)
    assert len(tried) == 8 and tried[0] == {name: one.default for name, one in METHODS[FINE_TUNE].ranges.items()}
    assert found.by_default == pytest.approx(0.08) and found.objective == min(abs(one["effort"] - 0.02) for one in tried)
    assert found.chosen in tried and found.objective < found.by_default


def test_gaps_by_hand() -> None:
    assert gap([1.0, 4.0], [1.0, 3.0]) == pytest.approx((1 + 2) / 2)
    assert floor([0.0, 1.0, 5.0]) == pytest.approx((3 + 1.5 + 4.5) / 3)


def test_gaps_are_summed_in_units_of_the_worse_control_and_the_least_sum_is_first() -> None:
    gaps = pd.DataFrame(
        {"accuracy": [0.8, 0.0, 0.2, 0.4, 0.1], "divergence": [2.0, 4.0, 1.0, 0.0, 0.0]},
        index=["original", "mask", "one", "two", "retrain"],
    )
    found = ranked(gaps, ["original", "mask"], "retrain")
    assert found["sum of gaps"].tolist() == [1 + 0.5, 0 + 1, 0.25 + 0.25, 0.5 + 0, 0.125]
    assert found["rank"].dropna().to_dict() == {"original": 4, "mask": 3, "one": 1, "two": 1}


def test_the_fastest_rival_as_good_is_neither_the_fastest_nor_the_best() -> None:
    figures = pd.DataFrame(
        {"divergence": [0.2, 0.1, 0.2, 0.3], "accuracy": [0.9, 0.9, 0.95, 0.99]}, index=["sample", "slow", "good", "quick"]
    )
    seconds = {"slow": 3.0, "good": 2.0, "quick": 1.0}
    assert fastest_as_good(figures, seconds, "sample", "divergence", "accuracy") == "good"
    assert fastest_as_good(figures, {"quick": 1.0}, "sample", "divergence", "accuracy") is None
