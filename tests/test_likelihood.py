"""Worlds by hand: logits that are normal, so that what a judge can tell of members is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor

from hf_mlops.audit.boosted import boosted_scores
from hf_mlops.audit.likelihood import Judged, likelihood_ratios, true_class_logits
from hf_mlops.audit.worlds import halves, pairs

LABELS = torch.arange(3).repeat_interleave(200)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def worlds(leak: float, seed: int = 0, count: int = 8, models: int = 4, labels: Tensor = LABELS) -> tuple[Tensor, Tensor]:
    """Logits whose worlds differ by a normal of deviation 1 for each image, and classifiers of a world by one of 1/2.

    Images differ by much more, and so do whole classes in a classifier. Members are `leak` higher.
    """
    members = halves(labels, count, seed)
    logits = noise(seed, count, 1, len(labels)) + noise(seed + 1, count, models, len(labels)) / 2
    depth = 5 * noise(seed + 2, count, models, 3)[..., labels]
    return logits + 10 * noise(seed + 3, len(labels)) + depth + leak * members[:, None], members


def judged(leak: float, seed: int = 0, count: int = 8) -> Judged:
    logits, members = worlds(leak, seed, count)
    return Judged(likelihood_ratios(logits, members, LABELS), members)


def interval(judged: Judged) -> tuple[float, float]:
    low, high = np.quantile(judged.areas(), (0.025, 0.975))
    return float(low), float(high)


def test_every_image_is_in_one_world_of_each_pair_and_classes_are_halved() -> None:
    labels = torch.cat([LABELS, torch.tensor([0])])
    members = halves(labels, 8)
    assert (members.sum(0) == 4).all() and torch.equal(members[::2], ~members[1::2])
    assert members[:, labels > 0].sum(1).tolist() == [200] * 8
    assert set(members[:, labels == 0].sum(1).tolist()) == {100, 101}
    assert len(members.unique(dim=0)) == 8
    assert torch.equal(halves(labels, 12)[:8], members) and not torch.equal(halves(labels, 8, 1), members)


@pytest.mark.parametrize("count", [0, 4, 7])
def test_too_few_worlds_or_an_odd_number_are_refused(count: int) -> None:
    message = f"worlds = {count} is not allowed; allowed: an even number from 6"
    with pytest.raises(ValueError, match=message):
        halves(LABELS, count)
    members = torch.ones(count, len(LABELS), dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        likelihood_ratios(torch.zeros(count, 2, len(LABELS)), members, LABELS)
    with pytest.raises(ValueError, match=message):
        boosted_scores(torch.zeros(count, 2, len(LABELS), 3), members, LABELS)


def test_worlds_that_are_no_pairs_are_refused() -> None:
    members = halves(LABELS, 8)
    members[5, 0] = members[4, 0]
    with pytest.raises(ValueError, match="worlds 4 and 5 share images, or lack some; allowed: pairs of complementary halves"):
        list(pairs(members))


def test_logits_of_the_true_class_lose_neither_a_sure_nor_a_forgotten_class() -> None:
    answers = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).log()
    answers[1, [0, 2]], answers[2, [1, 2]] = torch.tensor([-40.0, -45.0]), torch.tensor([-30.0, -50.0])
    found = true_class_logits(answers, torch.tensor([0, 1, 2]))
    assert found.tolist() == pytest.approx([0, 40 - np.log1p(np.exp(-5)), -50])


def test_the_area_of_two_normals_is_that_of_the_formula() -> None:
    members = halves(torch.zeros(4000).long(), 6)
    for apart in (0.0, 0.5, 2.0):
        scores = noise(0, 6, 1, 4000) + apart * members[:, None]
        assert Judged(scores, members).area == pytest.approx(norm.cdf(apart / 2**0.5), abs=0.01)


def test_the_area_counts_a_tie_as_half_a_win() -> None:
    members = halves(LABELS, 6)
    scores = (noise(0, 6, 2, len(LABELS)) + members[:, None]).round()
    expected = roc_auc_score(members[:, None].expand_as(scores).flatten(), scores.flatten())
    assert Judged(scores, members).area == pytest.approx(expected)


def test_a_planted_leak_is_found_as_well_as_it_can_be() -> None:
    """One classifier has a deviation of √1.25. Likelihood ratios of known normals would have the area of the formula."""
    best = norm.cdf(1 / 1.25**0.5 / 2**0.5)
    assert judged(1.0, count=24).area == pytest.approx(best, abs=0.02)
    found = judged(1.0)
    assert best - 0.04 < found.area < best
    assert interval(found)[0] > 0.6 and found.detection()["TPR at 1 %"] > 0.03


def test_scores_are_logarithms_of_likelihood_ratios() -> None:
    """Of normals 1 apart with variance 1.25 they are ± 1 / 2.5 on average, and of the mean of 4 classifiers ± 1 / 2.125."""
    logits, members = worlds(1.0, count=32)
    for given, variance in ((logits, 1.25), (logits.mean(1, keepdim=True), 1.0625)):
        scores = likelihood_ratios(given, members, LABELS).mean(1)
        assert (scores[members].mean() - scores[~members].mean()).item() == pytest.approx(1 / variance, rel=0.08)


def test_the_mean_of_several_classifiers_tells_more_than_one() -> None:
    logits, members = worlds(1.0)
    together = Judged(likelihood_ratios(logits.mean(1, keepdim=True), members, LABELS), members)
    assert together.scores.shape == (8, 1, 600)
    assert together.area > judged(1.0).area + 0.01


def test_a_leak_of_either_sign_in_single_images_is_found() -> None:
    """The mean over a class shows nothing of it."""
    logits, members = worlds(0.0)
    logits = logits + 3 * noise(9, len(LABELS)) * members[:, None]
    assert interval(Judged(likelihood_ratios(logits, members, LABELS), members))[0] > 0.7


def test_without_a_leak_the_interval_holds_chance() -> None:
    held = [low < 0.5 < high for low, high in (interval(judged(0.0, seed)) for seed in range(0, 60, 10))]
    assert sum(held) >= 5


def test_nothing_of_the_judged_pair_is_in_what_judges_it() -> None:
    """Neither which images its worlds had, nor what their other classifiers answer."""
    logits, members = worlds(1.0)
    others, swapped = logits.clone(), members.clone()
    others[2:4, 1:] += noise(9, 2, 3, len(LABELS))
    swapped[2:4] = members[[3, 2]]
    expected, found = (likelihood_ratios(*given, LABELS) for given in ((logits, members), (others, swapped)))
    assert torch.allclose(found[2:4, 0], expected[2:4, 0])
    assert not torch.allclose(found[4:6], expected[4:6])


def test_boosted_trees_find_a_leak_that_is_not_in_the_true_class() -> None:
    logits, members = worlds(0.0)
    others = noise(20, 8, 4, len(LABELS), 2) + 10 * noise(21, len(LABELS), 2)
    others[..., 0] += 1.5 * members[:, None]
    answers = torch.cat([logits[..., None], others], -1)  # the true class first
    answers = answers.gather(-1, ((torch.arange(3) - LABELS[:, None]) % 3).expand_as(answers))
    assert interval(Judged(boosted_scores(answers, members, LABELS), members))[0] > 0.6
    low, high = interval(Judged(likelihood_ratios(logits, members, LABELS), members))
    assert low < 0.5 < high


def test_boosted_trees_know_which_class_is_the_true_one() -> None:
    """Others, of much more chance, do not hide what it tells."""
    logits, members = worlds(1.5)
    answers = torch.cat([logits[..., None], 5 * noise(20, 8, 4, len(LABELS), 2)], -1)
    answers = answers.gather(-1, ((torch.arange(3) - LABELS[:, None]) % 3).expand_as(answers))
    assert Judged(boosted_scores(answers, members, LABELS), members).area > 0.7


def test_boosted_trees_find_nothing_where_nothing_leaks() -> None:
    members = halves(LABELS, 8)
    answers = noise(0, 8, 1, len(LABELS), 3) + noise(1, 8, 4, len(LABELS), 3) / 2 + 10 * noise(3, len(LABELS), 3)
    low, high = interval(Judged(boosted_scores(answers, members, LABELS), members))
    assert low < 0.5 < high


def test_nothing_of_the_judged_pair_is_in_the_trees_that_judge_it() -> None:
    logits, members = worlds(1.0)
    answers, swapped = torch.stack([logits, -logits, noise(20, 8, 4, len(LABELS))], -1)[:, :2], members.clone()
    others = answers.clone()
    others[2:4, 1:] += noise(9, 2, 1, len(LABELS), 3)
    swapped[2:4] = members[[3, 2]]
    expected, found = (boosted_scores(*given, LABELS) for given in ((answers, members), (others, swapped)))
    assert torch.equal(found[2:4, 0], expected[2:4, 0])
