from __future__ import annotations

from math import e, log

import pytest
import torch

from hf_mlops.base.losses import log_losses, log_ratio, losses_of_logs, set_means

FLOOR = 0.001


def test_losses_enter_as_logarithms_above_a_floor_of_a_thousandth() -> None:
    logs = log_losses(torch.tensor([[0.0, 0.999], [e - FLOOR, 9.999]]))
    torch.testing.assert_close(logs, torch.tensor([[log(FLOOR), 0.0], [1.0, log(10)]]))


def test_losses_come_back_from_their_logarithms_and_never_below_0() -> None:
    losses = losses_of_logs(torch.tensor([0.0, 1.0, log(FLOOR), -50.0]))
    torch.testing.assert_close(losses, torch.tensor([0.999, e - FLOOR, 0.0, 0.0]))


def test_a_ratio_of_losses_is_one_above_the_floor() -> None:
    usual = torch.tensor([0.004, 0.009])
    torch.testing.assert_close(log_ratio(torch.tensor([0.009, 0.004]), usual), torch.tensor([log(2), -log(2)]))
    torch.testing.assert_close(log_ratio(0.009, usual), torch.tensor([log(2), 0.0]))


def test_means_are_over_each_set_weighted_by_the_groups_shares() -> None:
    values = torch.tensor([[1.5, 2.0, 4.0], [1.5, 2.0, 4.0]])
    forgotten = torch.tensor([[True, False, False], [False, False, True]])
    retain, forget = set_means(values, forgotten, torch.tensor([0.5, 0.25, 0.25]))
    assert retain.tolist() == pytest.approx([3, 5 / 3])
    assert forget.tolist() == [1.5, 4]


def test_what_forgets_nothing_has_no_mean_over_its_forget_set() -> None:
    retain, forget = set_means(torch.tensor([[1.0, 3.0]]), torch.tensor([[False, False]]), torch.tensor([0.5, 0.5]))
    assert retain.item() == 2 and forget.isnan().item()
