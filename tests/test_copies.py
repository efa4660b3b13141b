"""Copies by hand: classifiers with known sets of mistakes on seven images; and copies of real targets, which are found."""

from __future__ import annotations

import pytest
import torch
from by_hand import measured

from hf_mlops import Dataset, ForgetSpec, Population
from hf_mlops.audit.copies import apart, averages, distance, highest, likeness, loudest, noisy, normal, wrong
from hf_mlops.audit.measure import measure

NAN = float("nan")


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_mistakes_are_those_on_d_r() -> None:
    assert wrong(measured("a", "0 01 1110", "1 11 1111")).tolist() == [[True, False, False, False, False, True], [False] * 6]


def test_likeness_is_the_mistakes_that_both_make_over_those_that_either_makes() -> None:
    judged = wrong(measured("a", "1 00 1111", "1 11 1111"))
    trained = wrong(measured("a", "0 00 1111", "1 01 1110", "1 11 0011", "1 11 1111"))
    found = likeness(judged, trained)
    torch.testing.assert_close(found, torch.tensor([[1, 1 / 3, 0, 0], [0, 0, 0, NAN]]), equal_nan=True)


def test_the_highest_passes_over_a_classifier_itself_and_what_says_nothing() -> None:
    values = torch.tensor([[1.0, 0.5, NAN], [0.25, 1.0, NAN], [NAN, NAN, NAN]])
    torch.testing.assert_close(highest(values), torch.tensor([1.0, 1.0, NAN]), equal_nan=True)
    torch.testing.assert_close(highest(values, torch.eye(3).bool()), torch.tensor([0.5, 0.25, NAN]), equal_nan=True)
    assert highest(torch.zeros(2, 0)).isnan().tolist() == [True, True]


def test_answers_are_apart_by_their_mean_total_variation_on_d_r() -> None:
    first, second = measured("a", "1 11 1111"), measured("a", "0 11 1111", "1 11 1100")
    torch.testing.assert_close(apart(first, second), torch.tensor([[0, 0.5 * 2 / 6]]))


def test_a_copy_is_at_no_distance_and_one_with_noise_as_far_as_the_noise_is() -> None:
    weights = 100 + torch.randn(30, 1000, generator=chance())  # so many that torch would take products
    assert distance(weights, weights).diagonal().tolist() == [0] * 30
    found = distance(noisy(weights, torch.full((1000,), 2.0), 0.05, chance()), weights).diagonal()
    torch.testing.assert_close(found, torch.full((30,), 0.1 * 1000**0.5), rtol=0.1, atol=0)


def test_baselines_have_the_mean_and_spread_that_they_are_made_of() -> None:
    rows = torch.arange(5.0).unsqueeze(1) * torch.tensor([1.0, 10.0])
    assert averages(rows, 3, 5, chance()).tolist() == [[2, 20]] * 3
    assert len({tuple(one.tolist()) for one in averages(rows, 8, 2, chance())}) > 1
    drawn = normal(rows, 20_000, chance())
    torch.testing.assert_close(drawn.mean(0), rows.mean(0), rtol=0.02, atol=0)
    torch.testing.assert_close(drawn.std(0), rows.std(0), rtol=0.02, atol=0)
    assert drawn.T.corrcoef()[0, 1].abs() < 0.05  # each weight by itself
    with pytest.raises(ValueError, match="an average of 6 targets is not to be had of 5"):
        averages(rows, 3, 6, chance())
    with pytest.raises(ValueError, match="a normal distribution cannot be fitted to 1 targets; allowed: two or more"):
        normal(rows[:1], 3, chance())


def test_the_loudest_noise_is_the_most_that_leaves_copies_as_accurate() -> None:
    levels, accuracies = [0.0, 0.5, 1.0, 1.5], [0.97, 0.96, 0.97, 0.9]
    assert loudest(levels, accuracies, 0.965) == 1.0
    assert loudest(levels, accuracies, 0.98) == 0.0


def test_a_copy_of_a_training_target_is_found_and_a_retrained_one_is_none(population: Population, digits: Dataset) -> None:
    spec = ForgetSpec.parse("7", digits.groups.names)
    own = population.final & (population.forgotten == torch.tensor(spec.mask)).all(1)
    trained, retrained = (population.weights[own & (population.reference == one)] for one in (False, True))
    copied = noisy(trained[:4], trained.std(0), 0.01, chance())
    training = measure(population.target, trained, spec, digits.test)
    copies, fresh = (measure(population.target, one, spec, digits.test) for one in (copied, retrained))
    assert highest(likeness(wrong(copies), wrong(training))).min() == 1
    assert highest(-apart(copies, training)).min() > -0.001 > -0.002 > highest(-apart(fresh, training)).max()
    assert distance(copied, trained).argmin(1).tolist() == [0, 1, 2, 3]
    assert highest(-distance(retrained, trained)).max() < 20 * highest(-distance(copied, trained)).min()
