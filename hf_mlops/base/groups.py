"""Groups: the units that can be forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Groups:
    """The units that can be forgotten, a partition of the training data.

    Args:
        names: of the G groups.
        holders: for each class the groups that its training images are in, ascending.
        held_out: whether a group is measured on held-out images; if not, on training images of its own. What forgetting it
            changes is seen there: of a class in what new images are taken for, of a customer in what was learnt by heart.
    """

    names: tuple[str, ...]
    holders: tuple[tuple[int, ...], ...]
    held_out: tuple[bool, ...]

    @classmethod
    def of_classes(cls, class_names: Iterable[str]) -> Groups:
        """A group for each class."""
        names = tuple(class_names)
        return cls(names, tuple((group,) for group in range(len(names))), (True,) * len(names))

    def __len__(self) -> int:
        return len(self.names)

    def covered(self, forgotten: Collection[int]) -> list[int]:
        """Classes of which nothing is left to train on without these groups."""
        return [label for label, holders in enumerate(self.holders) if set(holders) <= set(forgotten)]

    @property
    def are_classes(self) -> bool:
        """Whether group i is all the training images of class i."""
        return self.holders == tuple((group,) for group in range(len(self)))
