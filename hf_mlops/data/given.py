"""A data set as it is given: labels, splits, and how to come by the images; its training images are not grouped yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

Part = tuple[UInt8[np.ndarray, "_ channels height width"], Int64[np.ndarray, " _"]]  # images and labels, as published


@dataclass(frozen=True)
class Assignment:
    """Which group each image is in, of all that were given.

    Args:
        source: where that stands, as errors call it.
        names: of the G groups.
        groups: 0 to G - 1, or -1 for a held-out image that is of none.
    """

    source: str
    names: tuple[str, ...]
    groups: Int64[np.ndarray, " images"]

    @classmethod
    def of_texts(cls, source: str, texts: Sequence[str | None]) -> Assignment:
        """Groups by name, in alphabetical order with numbers by their size; nothing for an image that is of none."""
        names = tuple(sorted({text for text in texts if text is not None}, key=_by_size))
        place: dict[str | None, int] = {None: -1, **{name: group for group, name in enumerate(names)}}
        return cls(source, names, np.array([place[text] for text in texts], np.int64))


@dataclass(frozen=True)
class Given:
    """Labelled images in three splits, every class in each of them.

    Args:
        labels: of all images: those for training, or all that were not split; then validation and test images, as
            far as these were given apart.
        splits: the rows of them that are for training, validation and test.
        listed: so many images, the first of them, must each be in a group: those for training, of which some may have been cut
            off since for validation and test.
        images: reads the images, uint8 or float32 from 0 to 1. Called once the groups are good.
        files: the image files, from the data set's own folder on, if there are any.
        own: groups that the data bring, if they are asked for.
    """

    name: str
    class_names: tuple[str, ...]
    labels: Int64[np.ndarray, " images"]
    splits: tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " validation"], Int64[np.ndarray, " test"]]
    listed: int
    images: Callable[[], Shaped[np.ndarray, "images channels height width"]]
    files: tuple[str, ...] = ()
    own: Assignment | None = None


def _by_size(name: str) -> tuple[list[str | int], str]:
    """A key to sort by: `customer 10` comes after `customer 9`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))], name
