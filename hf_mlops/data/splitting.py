"""Splits of the user's own data, in which no class is missing anywhere.

| given | training | validation | test |
|---|---|---|---|
| images | 60 % | 20 % | 20 % |
| training and test images | the rest | a tenth of the training images | as given |
| training and validation images | the rest | as given | a fifth of the training images |
| all three | as given | as given | as given |

Shares are of each class. A split depends on nothing but the labels and their order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import check_names
from hf_mlops.data.given import Given

SPLITS = {  # how the user's own are called, in upper or lower case
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def split_called(name: str) -> str | None:
    """The split that a folder or array of the user's is: `Valid` -> `validation`; nothing for another name."""
    return next((split for split, spellings in SPLITS.items() if name.lower() in spellings), None)


def check_classes(
    name: str,
    class_names: Sequence[str],
    labels: Int64[Tensor, " images"],
    validation_labels: Int64[Tensor, " _"] | None = None,
    test_labels: Int64[Tensor, " _"] | None = None,
) -> None:
    """Refuses classes that cannot be split, forgotten or told apart.

    Args:
        name: what errors call the data set.
        labels: indices of class names; of all images, or of the training images where others are given.

    Raises:
        BadRequest: says which class, and what is allowed.
    """
    if len(class_names) < 2:
        raise BadRequest(
            f"{name} has {len(class_names)} class{'es' * (not class_names)}; allowed: 2 or more, since one is to be forgotten"
        )
    check_names(class_names, f"{name}: the class")
    given = {"validation ": validation_labels, "test ": test_labels}
    own = {split: own for split, own in given.items() if own is not None}
    for split, some, needed in [("training " * bool(own), labels, 3 - len(own)), *((split, own[split], 1) for split in own)]:
        for class_name, count in zip(class_names, torch.bincount(some, minlength=len(class_names)).tolist(), strict=True):
            if count < needed:
                raise BadRequest(
                    f"{name}: the class {class_name!r} has {count} {split}images; allowed: at least {needed}, for every split"
                )


def divide(
    name: str,
    class_names: Sequence[str],
    images: Callable[[], Tensor],
    labels: Int64[Tensor, " images"],
    validation_labels: Int64[Tensor, " _"] | None = None,
    test_labels: Int64[Tensor, " _"] | None = None,
) -> Given:
    """Splits checked data. Warns of images that are in two splits, when they are read.

    Args:
        images: reads the images, (N, channels, height, width) float32 from 0 to 1; behind those that `labels` are of come
            validation images and then test images, as far as given.
    """
    none = labels[:0]
    parts = [labels, none if validation_labels is None else validation_labels, none if test_labels is None else test_labels]
    everything = torch.cat(parts)
    train, validation, test = torch.arange(len(everything)).split([len(part) for part in parts])
    if test_labels is None:
        train, test = _cut(train, labels, 0.2)
    if validation_labels is None:
        train, validation = _cut(train, labels, 0.25 if test_labels is None else 0.1)
    splits = train, validation, test

    def read() -> Tensor:
        found = images()
        _tell_of_copies(name, found, splits)
        return found

    return Given(name, tuple(class_names), everything, splits, len(labels), read)


def _cut(index: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """What is left and what is cut off: of each class its share, at least one image and, of two or more, never all."""
    random = np.random.RandomState(0)  # its stream is the same in every NumPy
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = index[labels[index] == label]
        chosen[members[random.permutation(len(members))[: max(1, round(share * len(members)))]]] = True
    return index[~chosen[index]], index[chosen[index]]


def _tell_of_copies(name: str, images: Tensor, splits: tuple[Tensor, Tensor, Tensor]) -> None:
    """Warns of images whose every pixel is that of an image in another split, with how many there are."""
    pixels = [sha256(image.numpy().tobytes()).digest() for image in images]
    contents = {
        split: [pixels[row] for row in rows.tolist()]
        for split, rows in zip(("training", "validation", "test"), splits, strict=True)
    }
    found = []
    for one, other in combinations(contents, 2):
        there = set(contents[one])
        if copies := sum(image in there for image in contents[other]):
            found.append(f"{copies} of the {other} images are {one} images too")
    if found:
        warnings.warn(f"{name}: {', '.join(found)}, pixel by pixel: figures on these say nothing of new images", stacklevel=3)
