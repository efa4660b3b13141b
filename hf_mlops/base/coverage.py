"""Coverage: of which classes a set of groups leaves nothing, of many sets at once.

`holds` says which classes (rows) have training images in which groups (columns). Where groups are classes it is the identity,
and a class is covered where its group is forgotten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Bool, Float

from hf_mlops.base.groups import Groups


def holds_of(groups: Groups) -> Bool[np.ndarray, "classes groups"]:
    """Which classes have training images in which groups."""
    holds = np.zeros((len(groups.holders), len(groups)), bool)
    for label, holders in enumerate(groups.holders):
        holds[label, list(holders)] = True
    return holds


def covered(forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"]) -> Bool[Any, "rows classes"]:
    """Classes whose training images are all in forgotten groups."""
    return _left(forgotten, holds) == 0


def within(classes: Bool[Any, "rows classes"], holds: Bool[Any, "classes groups"]) -> Bool[Any, "rows groups"]:
    """Groups whose training images are all of these classes."""
    return _left(classes, holds.T) == 0


def within_each(holds: Bool[Any, "classes groups"]) -> Bool[Any, "classes groups"]:
    """For each class the groups whose training images are all of it."""
    xp = array_namespace(holds)
    return within(xp.eye(len(holds)) == 1, holds)


def composable(forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"]) -> Bool[Any, "rows classes"]:
    """Classes that a target which forgot these groups can be without, as if it had forgotten further groups.

    Those, not covered yet, all of whose other training images are in groups that hold nothing but this class and such as are
    covered: then leaving the class out of the answers stands for forgetting these groups.
    """
    out = covered(forgotten, holds)
    xp = array_namespace(holds)
    able = xp.zeros_like(out)
    for label in range(len(holds)):
        without = out | (xp.arange(len(holds)) == label)
        able[:, label] = covered(forgotten | within(without, holds), holds)[:, label] & ~out[:, label]
    return able


def share_classes(holds: Bool[Any, "classes groups"]) -> bool:
    """Whether some class is in several groups."""
    xp = array_namespace(holds)
    return bool(xp.any(xp.sum(xp.astype(holds, xp.float32), axis=1) > 1))


def scarcity(forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"]) -> Float[Any, "rows scarce"]:
    """How little is left of each class that is in several groups: 1 if it is covered, else -1; and halvings, 0 to 1.

    Two entries for each such class, none where groups are classes. Of ten groups that hold a class nine forgotten are log2(10)
    halvings, eight are log2(5), out of log2(20), which is for all of them.
    """
    xp = array_namespace(forgotten)
    count = xp.sum(xp.astype(holds, xp.float32), axis=1)
    shared = count > 1
    left = _left(forgotten, holds)
    halvings = xp.log2(count / xp.clip(left, 0.5, None)) / xp.log2(xp.clip(2 * count, 2, None))
    return xp.concat([xp.astype((left == 0)[:, shared], xp.float32) * 2 - 1, halvings[:, shared]], axis=1)


def depletion(forgotten: Bool[Any, "rows groups"], holds: Bool[Any, "classes groups"]) -> Float[Any, "rows deplete"]:
    """For each forgotten group what part is forgotten of the classes it holds, 0 to 1, their mean; 0 for one that is kept.

    An entry for each group, none where groups are classes. Of a class in ten groups, three of which are forgotten, 0.3 each.
    """
    xp = array_namespace(forgotten)
    held = xp.astype(holds, xp.float32)
    gone = 1 - _left(forgotten, holds) / xp.clip(xp.sum(held, axis=1), 1, None)
    depleted = xp.astype(forgotten, xp.float32) * (gone @ held) / xp.clip(xp.sum(held, axis=0), 1, None)
    return depleted if share_classes(holds) else depleted[:, :0]


def _left(taken: Bool[Any, "rows some"], holds: Bool[Any, "others some"]) -> Float[Any, "rows others"]:
    """How many are not taken of those that belong to each of the others."""
    xp = array_namespace(taken)
    return xp.astype(~taken, xp.float32) @ xp.astype(holds, xp.float32).T
