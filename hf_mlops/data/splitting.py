"""Splits in which no class is missing anywhere. Those of the user's own data:

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
from jaxtyping import Float32, Int64

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import check_names
from hf_mlops.data.given import Given

Images = Float32[np.ndarray, "images channels height width"]
Rows = Int64[np.ndarray, " _"]

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
    labels: Int64[np.ndarray, " images"],
    validation_labels: Int64[np.ndarray, " _"] | None = None,
    test_labels: Int64[np.ndarray, " _"] | None = None,
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
        for class_name, count in zip(class_names, np.bincount(some, minlength=len(class_names)).tolist(), strict=True):
            if count < needed:
                raise BadRequest(
                    f"{name}: the class {class_name!r} has {count} {split}images; allowed: at least {needed}, for every split"
                )


def divide(
    name: str,
    class_names: Sequence[str],
    images: Callable[[], Images],
    labels: Int64[np.ndarray, " images"],
    validation_labels: Int64[np.ndarray, " _"] | None = None,
    test_labels: Int64[np.ndarray, " _"] | None = None,
) -> Given:
    """Splits checked data. Warns of images that are in two splits, when they are read.

    Args:
        images: reads the images, of values from 0 to 1; behind those that `labels` are of come
            validation images and then test images, as far as given.
    """
    none = labels[:0]
    parts = [labels, none if validation_labels is None else validation_labels, none if test_labels is None else test_labels]
    everything = np.concatenate(parts)
    train, validation, test = np.split(np.arange(len(everything)), np.cumsum([len(part) for part in parts[:-1]]))
    if test_labels is None:
        train, test = _cut(train, labels, 0.2)
    if validation_labels is None:
        train, validation = _cut(train, labels, 0.25 if test_labels is None else 0.1)
    splits = train, validation, test

    def read() -> Images:
        found = images()
        _tell_of_copies(name, found, splits)
        return found

    return Given(name, tuple(class_names), everything, splits, len(labels), read)


def stratified(labels: Rows, count: int) -> tuple[Rows, Rows]:
    """Rows in two parts, in random order: so many, and the others, each class as frequent in both as in all.

    They are those of scikit-learn's `train_test_split(range(len(labels)), train_size=count, stratify=labels, random_state=0)`.
    """
    random, sizes = np.random.RandomState(0), np.bincount(labels)
    first = _in_proportion(random, sizes, count)
    _in_proportion(random, sizes - first, len(labels) - count)  # scikit-learn draws for the others too
    rows = [np.flatnonzero(labels == label)[random.permutation(size)] for label, size in enumerate(sizes)]
    parts = zip(*(np.split(own, [cut]) for own, cut in zip(rows, first, strict=True)), strict=True)
    one, other = (random.permutation(np.concatenate(part)) for part in parts)
    return one, other


def _in_proportion(random: np.random.RandomState, sizes: Rows, count: int) -> Rows:
    """So many in all, of each class its share in whole numbers: 2 out of sizes 2, 1 and 1 are 1, 1, 0 or 1, 0, 1, by chance."""
    shares = sizes / sizes.sum() * count
    whole = np.floor(shares)
    rest = shares - whole
    for value in np.unique(rest)[::-1]:  # largest first
        if (missing := int(count - whole.sum())) <= 0:
            break
        tied = np.flatnonzero(rest == value)
        whole[random.choice(tied, min(len(tied), missing), replace=False)] += 1
    return whole.astype(np.int64)


def _cut(index: Rows, labels: Rows, share: float) -> tuple[Rows, Rows]:
    """What is left and what is cut off: of each class its share, at least one image and, of two or more, never all."""
    random = np.random.RandomState(0)  # its stream is the same in every NumPy
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = index[labels[index] == label]
        chosen[members[random.permutation(len(members))[: max(1, round(share * len(members)))]]] = True
    return index[~chosen[index]], index[chosen[index]]


def _tell_of_copies(name: str, images: Images, splits: tuple[Rows, Rows, Rows]) -> None:
    """Warns of images whose every pixel is that of an image in another split, with how many there are."""
    pixels = [sha256(image.tobytes()).digest() for image in images]
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
