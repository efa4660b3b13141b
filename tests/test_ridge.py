from __future__ import annotations

import torch

from hf_mlops.base.ridge import ridge

SIGNS = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0]])  # columns at right angles


def test_the_constant_is_not_penalised() -> None:
    """A penalty of 1 on it would give 40 / (4 + 1) instead of the mean, 10."""
    found = ridge(SIGNS, torch.full((4,), 10.0))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 10.0]), rtol=0, atol=1e-4)


def test_all_other_coefficients_have_a_penalty_of_1() -> None:
    """x'y / (x'x + 1) is 6 / (2 + 1) and 12 / (2 + 1), where least squares would give 3 and 6."""
    found = ridge(SIGNS, torch.tensor([3.0, -3.0, 6.0, -6.0]))
    torch.testing.assert_close(found, torch.tensor([2.0, 4.0, 0.0]), rtol=0, atol=1e-4)


def test_many_values_are_regressed_at_once() -> None:
    values = torch.tensor([[13.0, 1.0], [7.0, 1.0], [10.0, 1.0], [10.0, 1.0]])
    found = ridge(SIGNS, values)
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0], [0.0, 0.0], [10.0, 1.0]]), rtol=0, atol=1e-4)
    assert found.dtype == torch.float32


def test_no_rows_at_all_give_zeros() -> None:
    assert torch.equal(ridge(torch.zeros(0, 3), torch.zeros(0)), torch.zeros(3))
