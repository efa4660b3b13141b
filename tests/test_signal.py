from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
from torch import Tensor

from hf_mlops.serving.signal import LossSignal

SHARE = torch.tensor([0.5, 0.25, 0.25])
NO, YES = torch.tensor(False), torch.tensor(True)
CLASSES = torch.eye(3).bool()  # each group is one
APART = CLASSES, NO, NO  # without pairs and shares


def loss(log: float) -> float:
    """The loss, nats, that enters as this log loss."""
    return exp(log) - 0.001


@pytest.fixture
def population() -> tuple[Tensor, Tensor]:
    """Losses and forget sets of three targets.

    Their log losses on D_r are 0, -2 and 2, of mean 0; on D_f 2, 4 and none, of mean 3 and spread 1.
    """
    losses = [
        [loss(2), 0.5 * loss(0), 1.5 * loss(0)],
        [0.5 * loss(-2), loss(4), 2 * loss(-2)],
        [loss(2), loss(2), loss(2)],
    ]
    forgotten = [[True, False, False], [False, True, False], [False, False, False]]
    return torch.tensor(losses), torch.tensor(forgotten)


def test_dihyfo_1_is_told_two_standardised_log_losses_which_groups_are_forgotten_and_powers(
    population: tuple[Tensor, Tensor],
) -> None:
    """The powers are of the log loss on D_r: its square over 2, its cube over 6."""
    signal = LossSignal.fit("dihyfo-1", *population, SHARE, *APART)
    off = 2 / sqrt(8 / 3)  # of a spread that is the root of (0 + 4 + 4) / 3
    expected = [
        [0.0, -1.0, 1.0, -1.0, -1.0, 0.0, 0.0],
        [-off, 1.0, -1.0, 1.0, -1.0, off**2 / 2, -(off**3) / 6],
        [off, 0.0, -1.0, -1.0, -1.0, off**2 / 2, off**3 / 6],
    ]
    torch.testing.assert_close(signal(*population), torch.tensor(expected))
    assert signal.width == 7


def test_dihyfo_2_is_told_the_standardised_log_loss_of_every_group() -> None:
    losses = torch.tensor([[loss(1), loss(-2), loss(0)], [loss(5), loss(-2), loss(4)]])
    forgotten = torch.tensor([[False, True, False], [False, False, False]])
    signal = LossSignal.fit("dihyfo-2", losses, forgotten, SHARE, *APART)
    torch.testing.assert_close(signal(losses, forgotten), torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]]))
    assert signal.width == 3


def test_a_loss_that_never_varies_is_divided_by_a_millionth_instead_of_0() -> None:
    losses, forgotten = torch.full((2, 3), loss(0)), torch.zeros(2, 3, dtype=torch.bool)
    signal = LossSignal.fit("dihyfo-2", losses, forgotten, SHARE, *APART)
    assert signal(torch.full((1, 3), loss(1)), forgotten[:1]).tolist()[0] == pytest.approx([1e6] * 3, rel=1e-4)


def test_a_population_that_forgets_nothing_says_nothing_of_the_loss_on_the_forget_set() -> None:
    losses, forgotten = torch.tensor([[loss(0)] * 3, [loss(2)] * 3]), torch.zeros(2, 3, dtype=torch.bool)
    signal = LossSignal.fit("dihyfo-1", losses, forgotten, SHARE, *APART)
    torch.testing.assert_close(signal(losses, forgotten)[:, :2], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(signal.spread, torch.ones(2))


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'dihyfo-3'; allowed: dihyfo-1, dihyfo-2"):
        LossSignal.fit("dihyfo-3", torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool), SHARE, *APART)


def test_a_class_in_several_groups_is_told_of_by_how_little_is_left_of_it(population: tuple[Tensor, Tensor]) -> None:
    """Class 0 is in the groups 0 and 1; class 1 is group 2, which tells of it itself."""
    losses, forgotten = population
    holds = torch.tensor([[True, True, False], [False, False, True]])
    plain, signal = (LossSignal.fit("dihyfo-1", losses, forgotten, SHARE, some, NO, NO) for some in (CLASSES, holds))
    assert (plain.width, signal.width) == (7, 12)
    both = torch.tensor([[True, True, False]])
    torch.testing.assert_close(signal(losses, forgotten)[:, :5], plain(losses, forgotten)[:, :5])
    assert signal(losses, forgotten)[:, 5:7].tolist() == [[-1, 0.5], [-1, 0.5], [-1, 0]]
    assert signal(losses[:1], both)[0, 5:7].tolist() == [1, 1]
    assert signal(losses, forgotten)[:, 7:10].tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0]]
    assert signal(losses[:1], both)[0, 7:10].tolist() == [1, 1, 0]
    assert LossSignal.fit("dihyfo-2", losses, forgotten, SHARE, holds, NO, NO).width == 3


def test_where_runs_tell_pairs_apart_both_losses_are_told_once_more_for_each_group_in_the_forget_set(
    population: tuple[Tensor, Tensor],
) -> None:
    losses, forgotten = population
    plain, signal = (LossSignal.fit("dihyfo-1", losses, forgotten, SHARE, CLASSES, pairs, NO) for pairs in (NO, YES))
    told = signal(losses, forgotten)
    assert torch.equal(told[:, :7], plain(losses, forgotten)) and signal.width == 13
    torch.testing.assert_close(told[:, 7:10], torch.where(forgotten, told[:, 1:2], 0.0))
    torch.testing.assert_close(told[:, 10:], torch.where(forgotten, told[:, :1], 0.0))
    assert told[0, 7] == -1 and told[1, 11] == told[1, 0] != 0


def test_with_shares_each_group_in_the_forget_set_is_told_as_its_share_of_it(population: tuple[Tensor, Tensor]) -> None:
    losses, _ = population
    forgotten = torch.tensor([[True, True, False], [False, False, True], [False, False, False]])
    plain, signal = (LossSignal.fit("dihyfo-1", losses, forgotten, SHARE, CLASSES, NO, shares) for shares in (NO, YES))
    told = signal(losses, forgotten)
    assert told[:, 5:8].tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0, 0, 0]]
    assert torch.equal(torch.cat([told[:, :5], told[:, 8:]], 1), plain(losses, forgotten)) and signal.width == 10
    assert LossSignal.fit("dihyfo-2", losses, forgotten, SHARE, CLASSES, NO, YES).width == 3


def test_pairs_are_told_of_groups_that_share_classes(population: tuple[Tensor, Tensor]) -> None:
    losses, _ = population
    holds = torch.tensor([[True, True, False], [False, False, True]])
    both = torch.tensor([[True, True, False], [True, False, True], [False, False, True]])
    signal = LossSignal.fit("dihyfo-1", losses, both, SHARE, holds, YES, NO)
    pairs = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(signal(losses, both)[:, 7:10], pairs)
    assert signal.width == 2 + 3 + 2 + 3 + 2 + 6
