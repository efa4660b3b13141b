from __future__ import annotations

import pytest
import torch

from hf_mlops.serving.features import set_features, tells_pairs

FORGOTTEN = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
SINGLES = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])


def test_of_classes_features_are_those_that_are_forgotten_and_three_tenths_for_a_pair() -> None:
    pairs = torch.tensor([[0.0, 0.3, 0.0], [0.3, 0.3, 0.3], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(set_features(FORGOTTEN, torch.eye(3).bool(), torch.tensor(True)), torch.cat([SINGLES, pairs], 1))
    assert torch.equal(set_features(FORGOTTEN, torch.eye(3).bool(), torch.tensor(False)), SINGLES)


def test_of_customers_features_are_also_how_scarce_classes_are_and_without_pairs_how_depleted() -> None:
    """Class 0 is in all three groups, class 1 in the last alone."""
    holds = torch.tensor([[True, True, True], [False, False, True]])
    halvings = torch.tensor(3.0).log2() / torch.tensor(6.0).log2()
    scarce = torch.tensor([[-1.0, halvings], [1.0, 1.0], [-1.0, 0.0]])
    depleted = torch.tensor([[2 / 3, 0.0, (2 / 3 + 1) / 2], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    alone, together = (set_features(FORGOTTEN, holds, torch.tensor(pairs)) for pairs in (False, True))
    torch.testing.assert_close(alone, torch.cat([SINGLES, scarce, depleted], 1))
    torch.testing.assert_close(together[:, :5], alone[:, :5])
    assert together.shape == (3, 8)


@pytest.mark.parametrize(
    ("groups", "runs", "told"), [(1, 0, True), (3, 11, False), (3, 12, True), (20, 759, False), (20, 760, True)]
)
def test_pairs_are_features_where_there_are_four_runs_for_each(groups: int, runs: int, told: bool) -> None:
    assert tells_pairs(groups, runs) is told
