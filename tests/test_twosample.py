from __future__ import annotations

import pytest
import torch

from hf_mlops import Dataset, Population
from hf_mlops.audit.twosample import behaviour, tell_apart


def rows(shift: float, spread: float, seed: int) -> torch.Tensor:
    return shift + spread * torch.randn(60, 12, generator=torch.Generator().manual_seed(seed))


def test_rows_of_one_distribution_cannot_be_told_apart() -> None:
    assert all(abs(auc - 0.5) < 0.15 for auc in tell_apart(rows(0, 1, 0), rows(0, 1, 1)).values())


def test_a_shift_is_seen_by_both_judges() -> None:
    assert min(tell_apart(rows(0, 1, 0), rows(1, 1, 1)).values()) > 0.95


def test_a_wider_spread_is_seen_by_the_judge_that_is_not_linear() -> None:
    aucs = tell_apart(rows(0, 1, 0), rows(0, 2, 1))
    assert aucs["gradient boosting"] > 0.8 > 0.65 > aucs["logistic regression"]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="60 and 3 rows cannot be told apart; allowed: at least 5 of each"):
        tell_apart(rows(0, 1, 0), rows(0, 1, 1)[:3])


def test_early_checkpoints_behave_unlike_finished_ones(population: Population, digits: Dataset) -> None:
    nothing_special = ~population.forgotten[:, 7]
    early = nothing_special & (population.step < population.config.train_steps / 2)
    late = nothing_special & population.final
    first, second = (behaviour(population.target, population.weights[some][:40], digits.test, 10) for some in (early, late))
    assert first.shape == (40, 30)
    assert min(tell_apart(first, second).values()) > 0.9
