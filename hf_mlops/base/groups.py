"""Groups: the units that can be forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Groups:
    """The units that can be forgotten, a partition of the data.

    Args:
        names: of the G groups.
        are_classes: whether group i is all the data of class i. Only then can a class be left out of a target's predictions to
            show what a target without that group would answer.
    """

    names: tuple[str, ...]
    are_classes: bool

    @classmethod
    def of_classes(cls, class_names: Iterable[str]) -> Groups:
        """A group for each class."""
        return cls(tuple(class_names), True)

    def __len__(self) -> int:
        return len(self.names)
