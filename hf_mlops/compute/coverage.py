"""Coverage: of which classes a set of groups leaves nothing, of many sets at once.

`holds` says which classes (rows) have training images in which groups (columns). Where groups are classes it is the identity,
and a class is covered where its group is forgotten.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_mlops.base.groups import Groups


def holds_of(groups: Groups) -> Bool[Tensor, "classes groups"]:
    """Which classes have training images in which groups."""
    holds = torch.zeros(len(groups.holders), len(groups), dtype=torch.bool)
    for label, holders in enumerate(groups.holders):
        holds[label, list(holders)] = True
    return holds


def covered(forgotten: Bool[Tensor, "rows groups"], holds: Bool[Tensor, "classes groups"]) -> Bool[Tensor, "rows classes"]:
    """Classes whose training images are all in forgotten groups."""
    return (~forgotten).float() @ holds.float().T == 0


def within(classes: Bool[Tensor, "rows classes"], holds: Bool[Tensor, "classes groups"]) -> Bool[Tensor, "rows groups"]:
    """Groups whose training images are all of these classes."""
    return (~classes).float() @ holds.float() == 0


def within_each(holds: Bool[Tensor, "classes groups"]) -> Bool[Tensor, "classes groups"]:
    """For each class the groups whose training images are all of it."""
    return within(torch.eye(len(holds)).bool(), holds)


def composable(forgotten: Bool[Tensor, "rows groups"], holds: Bool[Tensor, "classes groups"]) -> Bool[Tensor, "rows classes"]:
    """Classes that a target which forgot these groups can be without, as if it had forgotten further groups.

    Those, not covered yet, all of whose other training images are in groups that hold nothing but this class and such as are
    covered: then leaving the class out of the answers stands for forgetting these groups.
    """
    out = covered(forgotten, holds)
    able = torch.zeros_like(out)
    for label in range(len(holds)):
        without = out.clone()
        without[:, label] = True
        able[:, label] = covered(forgotten | within(without, holds), holds)[:, label] & ~out[:, label]
    return able


def scarcity(forgotten: Bool[Tensor, "rows groups"], holds: Bool[Tensor, "classes groups"]) -> Float[Tensor, "rows scarce"]:
    """How little is left of each class that is in several groups: 1 if it is covered, else -1; and halvings, 0 to 1.

    Two entries for each such class, none where groups are classes. Of ten groups that hold a class nine forgotten are log2(10)
    halvings, eight are log2(5), out of log2(20), which is for all of them.
    """
    count = holds.sum(1)
    shared = count > 1
    left = (~forgotten).float() @ holds.float().T  # (rows, classes)
    halvings = (count / left.clamp_min(0.5)).log2() / (2 * count).clamp_min(2).log2()
    return torch.cat([(left == 0)[:, shared] * 2.0 - 1, halvings[:, shared]], 1)
