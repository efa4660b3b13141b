"""Coverage: which classes sets of groups leave nothing of.

Class 0 is in the groups a and b, class 1 in b, c and d, class 2 in e alone.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_mlops.base.coverage import composable, covered, depletion, holds_of, scarcity, share_classes, within, within_each
from hf_mlops.base.groups import Groups

GROUPS = Groups(tuple("abcde"), ((0, 1), (1, 2, 3), (4,)), (True,) * 5)
HOLDS = torch.from_numpy(holds_of(GROUPS))


def groups(*sets: str) -> Tensor:
    """(sets, 5) bool."""
    return torch.tensor([[name in one for name in GROUPS.names] for one in sets])


def classes(*sets: str) -> Tensor:
    """(sets, 3) bool."""
    return torch.tensor([[str(label) in one for label in range(3)] for one in sets])


def test_a_class_is_covered_where_every_group_that_holds_it_is_forgotten() -> None:
    assert torch.equal(covered(groups("", "a", "ab", "bcd", "abcd", "e"), HOLDS), classes("", "", "0", "1", "01", "2"))
    assert [GROUPS.covered(some) for some in ([], [0, 1], [1, 2, 3], [0, 1, 2, 3, 4])] == [[], [0], [1], [0, 1, 2]]


def test_a_group_is_within_classes_where_it_holds_no_other() -> None:
    assert torch.equal(within(classes("", "0", "1", "01", "2"), HOLDS), groups("", "a", "cd", "abcd", "e"))


def test_each_class_has_the_groups_that_hold_nothing_else() -> None:
    assert torch.equal(within_each(HOLDS), groups("a", "cd", "e"))


def test_a_class_can_be_left_out_where_forgetting_further_groups_comes_to_that() -> None:
    """Group b holds both 0 and 1: neither can be left out alone, unless b is gone already."""
    able = composable(groups("", "b", "ab", "bcd", "e"), HOLDS)
    assert torch.equal(able, classes("2", "012", "12", "02", ""))


@pytest.mark.parametrize("count", [2, 5, 10])
def test_where_groups_are_classes_each_can_be_left_out_that_is_not_forgotten(count: int) -> None:
    holds = torch.from_numpy(holds_of(Groups.of_classes(map(str, range(count)))))
    forgotten = torch.rand(20, count, generator=torch.Generator().manual_seed(0)) < 0.4
    assert torch.equal(covered(forgotten, holds), forgotten) and torch.equal(within(forgotten, holds), forgotten)
    assert torch.equal(composable(forgotten, holds), ~forgotten)
    assert scarcity(forgotten, holds).shape == (20, 0) and depletion(forgotten, holds).shape == (20, 0)
    assert not share_classes(holds) and share_classes(HOLDS)


def test_a_class_is_the_scarcer_the_more_of_its_groups_are_forgotten() -> None:
    found = scarcity(groups("", "a", "ab", "cd", "bcd"), HOLDS)
    half, third = 1 / 2, torch.tensor(3.0).log2() / torch.tensor(6.0).log2()
    expected = [[-1, -1, 0, 0], [-1, -1, half, 0], [1, -1, 1, None], [-1, -1, 0, third], [-1, 1, half, 1]]
    for row, wanted in zip(found.tolist(), expected, strict=True):
        assert [one for one, other in zip(row, wanted, strict=True) if other is not None] == pytest.approx(
            [float(other) for other in wanted if other is not None]
        )


def test_a_forgotten_group_is_as_depleted_as_the_classes_it_holds_are_on_average() -> None:
    """Groups a and b hold class 0; b, c and d class 1; e class 2 alone."""
    expected = [[0] * 5, [1 / 2, 0, 0, 0, 0], [1, (1 + 1 / 3) / 2, 0, 0, 0], [0, 0, 2 / 3, 2 / 3, 0], [0, 0, 0, 0, 1]]
    torch.testing.assert_close(depletion(groups("", "a", "ab", "cd", "e"), HOLDS), torch.tensor(expected, dtype=torch.float32))
