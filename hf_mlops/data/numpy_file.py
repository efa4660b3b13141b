"""The user's own images and labels in a file of `numpy.savez`, checked in full before they are used."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Assignment, Given
from hf_mlops.data.splitting import SPLITS, check_classes, divide

Arrays = dict[str, NDArray[Any]]

CLASS_NAMES, GROUP_NAMES = "class_names", "group_names"
WHOLE = "all"  # the split of images that are not split yet
KEYS = {  # in upper or lower case: what is under a key, and of which split
    key: (split, kind)
    for kind, words in {"images": ("images", "x"), "labels": ("labels", "y"), "groups": ("groups",)}.items()
    for word in words
    for split, spellings in {WHOLE: ("",), **SPLITS}.items()
    for spelling in spellings
    for key in ((f"{spelling}_{word}", f"{word}_{spelling}") if spelling else (word,))
}
ALLOWED = (
    "images and labels, or x and y; or such a pair for train and for val, test or both, as train_images, train_labels, x_test,"
    f" y_test; and either way {CLASS_NAMES}; and groups, or train_groups with or without val_groups and test_groups, and"
    f" {GROUP_NAMES}"
)


def read_npz(path: str, groups: str = "") -> Given:
    """Arrays in a file of `numpy.savez`: images and labels, together or for each split, under keys that say which.

    The keys are those of `KEYS`: `images`, `train_images`, `X_train`, `y_val`. Images are uint8 (0 to 255) or floating-point (0
    to 1), of shape (N, height, width) or, with 1 or 3 channels, (N, height, width, channels). Only if the last axis is neither
    1 nor 3 long, and the second is, are channels taken to come first. Labels are integers 0 to K - 1 of shape (N,) or (N, 1).
    `class_names`, K texts, may be added; without it a class is called as its label.

    Groups may be added under keys such as `groups`, or `train_groups`, `val_groups` and `test_groups`, of shape (N,) or (N, 1):
    names as text, or integers 0 to G - 1, which `group_names`, G texts, gives names to; without it a group is called as its
    number. Validation and test images that are given apart are of no group where they have none, or -1 or an empty text.

    Args:
        groups: if it is empty, groups are those of the file, if there are any; else they are not looked at.

    Raises:
        BadRequest: no such file, or of another kind; other keys; types, shapes or values other than these; fewer than two
            classes; a class that is missing or too small to be split, or a group; class names that a forget spec cannot tell
            apart.
    """
    file = Path(path).expanduser().resolve()
    name = f"npz:{file}"
    if not file.is_file():
        raise BadRequest(f"{name}: there is no such file; allowed: one that numpy.savez wrote")
    arrays = _read_arrays(name, file)
    keys = _keys(name, arrays)
    classes = _names(name, arrays, CLASS_NAMES, next(iter(keys.values()))["labels"])
    labels = {split: _labels(name, pair, arrays, classes) for split, pair in keys.items()}
    own = next(iter(labels.values())), labels.get("validation"), labels.get("test")
    check_classes(name, classes, *own)
    assigned = None if groups else _groups(name, keys, arrays)
    images = [_images(name, pair["images"], arrays) for pair in keys.values()]
    if len({some.shape[1:] for some in images}) > 1:
        raise BadRequest(f"{name}: images of all splits must be of one shape, got {' and '.join(map(_shape, images))}")
    return replace(divide(name, classes, lambda: np.concatenate(images), *own), own=assigned)


def _keys(name: str, arrays: Arrays) -> dict[str, dict[str, str]]:
    """The keys of images, labels and groups, by split, in the order of SPLITS, and kind."""
    found: dict[str, dict[str, str]] = {split: {} for split in (WHOLE, *SPLITS)}
    odd = False
    for key in set(arrays) - {CLASS_NAMES, GROUP_NAMES}:
        split, kind = KEYS.get(key.lower(), ("", ""))
        odd |= not split or kind in found[split]
        if not odd:
            found[split][kind] = key
    found = {split: pair for split, pair in found.items() if pair}
    apart = "train" in found and len(found) > 1 and WHOLE not in found
    odd |= not (apart or list(found) == [WHOLE]) or any(not {"images", "labels"} <= pair.keys() for pair in found.values())
    in_groups = [split for split, pair in found.items() if "groups" in pair]
    nameless = not in_groups and GROUP_NAMES not in arrays
    if odd or not (nameless or next(iter(found)) in in_groups):
        raise BadRequest(f"{name} holds the keys {', '.join(sorted(arrays)) or '(none)'}; allowed: {ALLOWED}")
    return found


def _read_arrays(name: str, file: Path) -> Arrays:
    if not zipfile.is_zipfile(file):
        raise BadRequest(f"{name} is not an npz file, or not a whole one; allowed: one that numpy.savez wrote")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # of zipfile, zlib or NumPy
        raise BadRequest(f"{name} cannot be read: {error}; allowed: arrays of numbers or text, unbroken, no objects") from error
    return {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}


def _names(name: str, arrays: Arrays, key: str, of: str) -> list[str]:
    """The names given under a key, else the numbers there are under another, as text."""
    if key not in arrays:
        return [str(number) for number in range(len(np.unique(arrays[of])))]
    names = arrays[key]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise BadRequest(f"{name}: {key} is {names.dtype} of shape {_shape(names)}; allowed: text of shape (K,)")
    return [str(each) for each in names]


def _labels(name: str, pair: dict[str, str], arrays: Arrays, classes: list[str]) -> Int64[np.ndarray, " images"]:
    """One for each image, 0 to K - 1 with none missing."""
    key, labels = pair["labels"], _column(name, pair, "labels", arrays, "iu")
    _check_numbers(f"{name}: {key}", labels, len(classes))
    return labels.astype(np.int64)


def _column(name: str, pair: dict[str, str], what: str, arrays: Arrays, kinds: str) -> NDArray[Any]:
    """(N,), of one of these kinds of NumPy types, one for each image."""
    key, column, count = pair[what], arrays[pair[what]], len(np.atleast_1d(arrays[pair["images"]]))
    if column.dtype.kind not in kinds or column.shape not in ((count,), (count, 1)):
        raise BadRequest(
            f"{name}: {key} is {column.dtype} of shape {_shape(column)};"
            f" allowed: integers{' or text' * ('U' in kinds)} of shape ({count},) or ({count}, 1),"
            f" one for each of {pair['images']}"
        )
    return column.reshape(count)


def _check_numbers(source: str, numbers: NDArray[Any], count: int, held_out: bool = False) -> None:
    """Refuses other integers than 0 to `count` - 1, each at least once; of held-out images, than any of these and -1."""
    found = np.unique(numbers).tolist()
    if not (set(found) <= {-1, *range(count)} if held_out else found == list(range(count))):
        raise BadRequest(
            f"{source} holds {', '.join(map(str, found[:20]))}{', …' * (len(found) > 20)};"
            f" allowed: {f'-1 to {count - 1}' if held_out else f'0 to {count - 1}, each at least once'}"
        )


def _groups(name: str, keys: dict[str, dict[str, str]], arrays: Arrays) -> Assignment | None:
    """The groups of all images, in the order of `keys`, if the file has any."""
    train, *held_out = keys.values()
    if "groups" not in train:
        return None
    found = {pair["groups"]: _column(name, pair, "groups", arrays, "iuU") for pair in keys.values() if "groups" in pair}
    source, text = " and ".join(found), found[train["groups"]].dtype.kind == "U"
    if (text and GROUP_NAMES in arrays) or any((column.dtype.kind == "U") != text for column in found.values()):
        raise BadRequest(
            f"{name}: {source} are {', '.join(str(column.dtype) for column in found.values())},"
            f" {GROUP_NAMES} {'is' if GROUP_NAMES in arrays else 'not'} there;"
            f" allowed: all text, without {GROUP_NAMES}, or all integers"
        )
    none = np.array("" if text else -1)
    own = found[train["groups"]]
    others = [found[pair["groups"]] if "groups" in pair else np.repeat(none, len(arrays[pair["images"]])) for pair in held_out]
    if text:
        return Assignment.of_texts(source, [*own.tolist(), *(str(group) or None for some in others for group in some)])
    names = _names(name, arrays, GROUP_NAMES, train["groups"])
    _check_numbers(f"{name}: {train['groups']}", own, len(names))
    for pair, some in zip(held_out, others, strict=True):
        _check_numbers(f"{name}: {pair.get('groups')}", some, len(names), held_out=True)
    return Assignment(source, tuple(names), np.concatenate([own, *others]).astype(np.int64))


def _images(name: str, key: str, arrays: Arrays) -> Float32[np.ndarray, "images channels height width"]:
    """Values are 0 to 1."""
    given = arrays[key]
    if given.dtype != np.uint8 and given.dtype.kind != "f":
        raise BadRequest(f"{name}: {key} is {given.dtype}; allowed: uint8 (0 to 255) or floating-point (0 to 1)")
    shape = given.shape
    last, first = given.ndim == 4 and shape[3] in (1, 3), given.ndim == 4 and shape[1] in (1, 3)
    if not (given.ndim == 3 or last or first) or 0 in shape:
        raise BadRequest(
            f"{name}: {key} has the shape {_shape(given)}; allowed: (N, height, width), (N, height, width, channels) or"
            " (N, channels, height, width), channels being 1 or 3"
        )
    images = given.astype(np.float32)
    if given.dtype == np.uint8:
        images /= 255
    elif not (images.min() >= 0 and images.max() <= 1):  # so that NaN is refused too
        raise BadRequest(f"{name}: {key} has values from {given.min()} to {given.max()}; allowed: 0 to 1, or uint8")
    if given.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if last else images


def _shape(array: NDArray[Any]) -> str:
    return f"({', '.join(map(str, array.shape))}{',' * (array.ndim == 1)})"
