"""How training images are grouped, from a text: as the data come, by class, by a file, or dealt out; with or without poison."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import check_names
from hf_mlops.data.dataset import LIMIT, TOO_MANY, Dataset, Split, grouped
from hf_mlops.data.given import Given
from hf_mlops.data.group_files import find_group_file, is_group_file, read_group_file
from hf_mlops.data.image_folder import FOLDER
from hf_mlops.data.partitions import FORMS, Partition, parse_partition
from hf_mlops.data.poison import FORM, GROUP, Planted, Poison

OWN, CLASS = "", "class"
CLEAN = "clean"  # the group of all that is not poison
ALLOWED = f"{CLASS}, PATH.csv, PATH.parquet, {FOLDER}, {', '.join(FORMS)}; {FORM}, alone or behind one of these and a +"

Parts = list[Int64[np.ndarray, " _"]]  # labels or groups of the training, validation and test images


@dataclass(frozen=True)
class Grouping:
    """What the text `groups` of `load_dataset` says.

    Args:
        text: as it was given, with a file's path from the root on.
        base: what it says without poison; a file's path from the root on; `CLEAN` for poison alone.
        partition: to deal out training images by, if the base says so.
    """

    text: str
    base: str
    partition: Partition | None = None
    poison: Poison | None = None

    @classmethod
    def parse(cls, text: str) -> Grouping:
        """Reads one of `ALLOWED`, or nothing: the groups that the data bring, else classes.

        Raises:
            BadRequest: text of another form; numbers that are not allowed; a file that is not there.
        """
        text = text.strip()
        both = re.fullmatch(r"(?:(?P<base>.+)\+)?(?P<poison>poison(:[^+]*)?)", text)
        base = (both["base"] or CLEAN) if both else text
        poison = Poison.parse(both["poison"]) if both else None
        if is_group_file(base):
            base = str(find_group_file(base))
            return cls(f"{base}+{both['poison']}" if both else base, base, poison=poison)
        partition = parse_partition(base)
        if base not in (CLASS, FOLDER, CLEAN if both else OWN) and partition is None:
            raise BadRequest(f"groups={text} is not allowed; allowed: {ALLOWED}; or nothing: the groups that the data bring")
        return cls(text, base, partition, poison)

    def group(self, given: Given) -> Dataset:
        """The data set, with its training images in these groups.

        Held-out images are of the group of their class where groups are classes, of that which a file, folder or array says,
        and of `clean` where there is but that and poison; of no group else. Poison is laid before images are grouped: where it
        is not known it is in the group of the class that the attacker calls it.

        Raises:
            BadRequest: fewer than 2 groups, or more than `LIMIT`; one without training images; names that a forget spec cannot
                tell apart; too few images for it; a file of groups that does not fit the data. Images are read after that.
        """
        source = f"{given.name} with groups={self.text}" if self.text else given.name
        labels = [given.labels[rows] for rows in given.splits]
        planted = self.poison.plant(source, labels[0], given.class_names) if self.poison else None
        if planted:
            labels[0] = planted.labels
        origin, names, groups = self._base(source, given, labels)
        if planted:
            groups[0] = groups[0].copy()
            groups[0][planted.known] = len(names)
            names = (*names, GROUP)
        _check(origin, names, groups[0])
        return self._assembled(given, names, labels, groups, planted)

    def _base(self, source: str, given: Given, labels: Parts) -> tuple[str, tuple[str, ...], Parts]:
        """What errors call the groups, their names, and the groups of all images but poison."""
        own = read_group_file(Path(self.base), given) if is_group_file(self.base) else given.own
        if own:
            return f"{given.name}: {own.source}", own.names, [own.groups[rows] for rows in given.splits]
        if self.partition:
            names, groups = self.partition.deal(source, labels[0], given.class_names)
            return source, names, [groups, *(np.full_like(held_out, -1) for held_out in labels[1:])]
        if self.base == CLEAN:
            return source, (CLEAN,), [np.zeros_like(some) for some in labels]
        return source, given.class_names, [*labels]

    def _assembled(
        self, given: Given, names: tuple[str, ...], labels: Parts, groups: Parts, planted: Planted | None
    ) -> Dataset:
        images, classes = given.images(), len(given.class_names)
        parts = zip(given.splits, labels, groups, strict=True)
        train, validation, test = (Split(_pixels(images[rows]), own, where) for rows, own, where in parts)
        triggered = victims = None
        if self.poison and planted:
            train.images[planted.rows] = self.poison.trigger(train.images[planted.rows])
            triggered, victims = self.poison.triggered(test, classes), self.poison.victims(test.labels)
        own = grouped(names, classes, train, validation, test)
        return Dataset(given.name, train, validation, test, given.class_names, own, self.text, triggered, victims)


def _pixels(images: Shaped[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Values from 0 to 1, of bytes or of such values."""
    return np.divide(images, 255, dtype=np.float32) if images.dtype == np.uint8 else images


def _check(source: str, names: Sequence[str], groups: Int64[np.ndarray, " _"]) -> None:
    """Refuses groups that cannot be forgotten or told apart; `groups` are those of the training images."""
    if len(names) > LIMIT:
        raise BadRequest(f"{source} has {len(names)} groups; {TOO_MANY}")
    if len(names) < 2:
        raise BadRequest(
            f"{source} has {len(names)} group{'s' * (not names)}; allowed: 2 to {LIMIT}, since one is to be forgotten"
        )
    check_names(names, f"{source}: the group")
    for name, count in zip(names, np.bincount(groups, minlength=len(names)).tolist(), strict=True):
        if not count:
            raise BadRequest(
                f"{source}: the group {name!r} has no training image, once validation, test and poison are taken out of it;"
                " allowed: at least one"
            )
