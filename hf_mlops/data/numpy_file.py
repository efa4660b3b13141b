"""The user's own images and labels in a file of `numpy.savez`, checked in full before they are used."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.splitting import SPLITS, check_classes, divide

Arrays = dict[str, NDArray[Any]]

CLASS_NAMES = "class_names"
WHOLE = "all"  # the split of images that are not split yet
KEYS = {  # in upper or lower case: what is under a key, and of which split
    key: (split, kind)
    for kind, words in {"images": ("images", "x"), "labels": ("labels", "y")}.items()
    for word in words
    for split, spellings in {WHOLE: ("",), **SPLITS}.items()
    for spelling in spellings
    for key in ((f"{spelling}_{word}", f"{word}_{spelling}") if spelling else (word,))
}
ALLOWED = (
    "images and labels, or x and y; or such a pair for train and for val, test or both, as train_images, train_labels, x_test,"
    f" y_test; and either way {CLASS_NAMES}"
)


def read_npz(path: str) -> Dataset:
    """Arrays in a file of `numpy.savez`: images and labels, together or for each split, under keys that say which.

    The keys are those of `KEYS`: `images`, `train_images`, `X_train`, `y_val`. Images are uint8 (0 to 255) or floating-point (0
    to 1), of shape (N, height, width) or, with 1 or 3 channels, (N, height, width, channels). Only if the last axis is neither
    1 nor 3 long, and the second is, are channels taken to come first. Labels are integers 0 to K - 1 of shape (N,) or (N, 1).
    `class_names`, K texts, may be added; without it a class is called as its label.

    Raises:
        BadRequest: no such file, or of another kind; other keys; types, shapes or values other than these; fewer than two
            classes; a class that is missing or too small to be split; class names that a forget spec cannot tell apart.
    """
    file = Path(path).expanduser().resolve()
    name = f"npz:{file}"
    if not file.is_file():
        raise BadRequest(f"{name}: there is no such file; allowed: one that numpy.savez wrote")
    arrays = _read_arrays(name, file)
    keys = _keys(name, arrays)
    classes = _class_names(name, arrays, next(iter(keys.values()))["labels"])
    labels = {split: _labels(name, pair, arrays, classes) for split, pair in keys.items()}
    own = next(iter(labels.values())), labels.get("validation"), labels.get("test")
    check_classes(name, classes, *own)
    images = [_images(name, pair["images"], arrays) for pair in keys.values()]
    if len({some.shape[1:] for some in images}) > 1:
        raise BadRequest(f"{name}: images of all splits must be of one shape, got {' and '.join(map(_shape, images))}")
    return divide(name, classes, torch.cat(images), *own)


def _keys(name: str, arrays: Arrays) -> dict[str, dict[str, str]]:
    """The keys of images and labels, by split, in the order of SPLITS, and kind."""
    found: dict[str, dict[str, str]] = {split: {} for split in (WHOLE, *SPLITS)}
    odd = False
    for key in set(arrays) - {CLASS_NAMES}:
        split, kind = KEYS.get(key.lower(), ("", ""))
        odd |= not split or kind in found[split]
        if not odd:
            found[split][kind] = key
    found = {split: pair for split, pair in found.items() if pair}
    apart = "train" in found and len(found) > 1 and WHOLE not in found
    if odd or not (apart or list(found) == [WHOLE]) or any(len(pair) < 2 for pair in found.values()):
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


def _class_names(name: str, arrays: Arrays, labels_key: str) -> list[str]:
    """The names given, else the labels there are, as text."""
    if CLASS_NAMES not in arrays:
        return [str(label) for label in range(len(np.unique(arrays[labels_key])))]
    names = arrays[CLASS_NAMES]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise BadRequest(f"{name}: {CLASS_NAMES} is {names.dtype} of shape {_shape(names)}; allowed: text of shape (K,)")
    return [str(class_name) for class_name in names]


def _labels(name: str, pair: dict[str, str], arrays: Arrays, classes: list[str]) -> Tensor:
    """(N,) int64, one for each image, 0 to K - 1 with none missing."""
    key, count, labels = pair["labels"], len(np.atleast_1d(arrays[pair["images"]])), arrays[pair["labels"]]
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        raise BadRequest(
            f"{name}: {key} is {labels.dtype} of shape {_shape(labels)};"
            f" allowed: integers of shape ({count},) or ({count}, 1), one for each of {pair['images']}"
        )
    found = np.unique(labels).tolist()
    if found != list(range(len(classes))):
        raise BadRequest(
            f"{name}: {key} holds {', '.join(map(str, found[:20]))}{', …' * (len(found) > 20)};"
            f" allowed: 0 to {len(classes) - 1}, each at least once"
        )
    return torch.from_numpy(labels.reshape(count).astype(np.int64))


def _images(name: str, key: str, arrays: Arrays) -> Tensor:
    """(N, channels, height, width) float32, 0 to 1."""
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
    images = torch.from_numpy(given.astype(np.float32))
    if given.dtype == np.uint8:
        images.div_(255)
    elif not (images.min() >= 0 and images.max() <= 1):  # so that NaN is refused too
        raise BadRequest(f"{name}: {key} has values from {given.min()} to {given.max()}; allowed: 0 to 1, or uint8")
    if given.ndim == 3:
        return images[:, None]
    return images.permute(0, 3, 1, 2) if last else images


def _shape(array: NDArray[Any] | Tensor) -> str:
    return f"({', '.join(map(str, array.shape))}{',' * (array.ndim == 1)})"
