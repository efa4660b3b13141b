"""The user's own data: an image folder or a NumPy file, checked in full before it is used."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.compute.progress import Progress
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.splitting import check_classes, divide

if TYPE_CHECKING:
    from PIL.Image import Image

Arrays = dict[str, NDArray[Any]]

DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # PIL's modes of 16-bit images
GRAY = ("1", "L", *DEEP_GRAY)
CLASS_NAMES, WHOLE = "class_names", ("images", "labels")
SPLIT = ("train_images", "train_labels", "test_images", "test_labels")


def read_folder(path: str) -> Dataset:
    """Images in a folder for each class: PATH/CLASS/*, or PATH/train/CLASS/* and PATH/test/CLASS/*.

    Formats are those of torchvision's ImageFolder. If all images are gray (PIL modes 1, L, I;16, I) they keep one channel, else
    all become RGB; transparency is dropped. Names that begin with a dot are passed over.

    Raises:
        BadRequest: no such folder; fewer than two classes; an empty class, or one too small to be split; training and test
            images of different classes; class names that a forget spec cannot tell apart; a broken image; several sizes.
    """
    root = Path(path).expanduser().resolve()
    name = f"folder:{root}"
    if not root.is_dir():
        raise BadRequest(f"{name}: there is no such folder; allowed: one with CLASS/*, or with train/CLASS/* and test/CLASS/*")
    folders = _folders(root)
    train, test = (root / "train", root / "test") if {"train", "test"} <= set(folders) else (root, None)
    if test and len(folders) > 2:
        raise BadRequest(f"{name} holds {', '.join(folders)}; allowed: train and test alone, or a folder for each class")
    classes = _folders(train)
    if test and (odd := set(classes) ^ set(_folders(test))):
        raise BadRequest(f"{name}: train and test must hold the same classes; only in one of them: {', '.join(sorted(odd))}")
    files, labels = _image_files(name, train, classes)
    test_files, test_labels = _image_files(name, test, classes) if test else ([], None)
    check_classes(name, classes, labels, test_labels)
    return divide(name, classes, _read_images(name, files + test_files), labels, test_labels)


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(name: str, folder: Path, classes: list[str]) -> tuple[list[str], Tensor]:
    """The files of each class, in alphabetical order, and their labels."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not classes:
        raise BadRequest(f"{name}: there is no folder in {folder}; allowed: a folder for each class")
    found = make_dataset(folder, {c: i for i, c in enumerate(classes)}, IMG_EXTENSIONS, allow_empty=True)
    found = [(file, label) for file, label in found if not Path(file).name.startswith(".")]
    labels = torch.tensor([label for _, label in found], dtype=torch.long)
    for empty in set(range(len(classes))) - set(labels.tolist()):
        raise BadRequest(f"{name}: there is no image in {folder / classes[empty]}; allowed: {', '.join(IMG_EXTENSIONS)}")
    return [file for file, _ in found], labels


def _read_images(name: str, files: list[str]) -> Tensor:
    """(N, 1 or 3, height, width) float32, 0 to 1; all sizes are compared before any image is decoded."""
    sizes, modes = [], set()
    for file in files:
        with _opened(file) as image:
            sizes.append(image.size)
            modes.add(image.mode)
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            (width, height), (first_width, first_height) = size, sizes[0]
            raise BadRequest(
                f"{name}: all images must be of one size, but {files[0]} has {first_width}×{first_height} pixels"
                f" and {file} has {width}×{height}"
            )
    images = torch.empty(len(files), 1 if modes <= set(GRAY) else 3, sizes[0][1], sizes[0][0])
    with Progress("reading images", len(files), "image", delay=2) as progress:
        for pixels, file in zip(images, files, strict=True):
            with _opened(file) as image:
                pixels[:] = _pixels(image, "L" if len(pixels) == 1 else "RGB")
            progress.advance()
    return images


@contextmanager
def _opened(file: str) -> Iterator[Image]:
    """An image file; whatever goes wrong with it is told of as a ValueError that names it."""
    import PIL.Image

    try:
        with PIL.Image.open(file) as image:
            yield image
    except Exception as error:  # a broken file makes PIL raise any of a dozen kinds
        raise BadRequest(f"{file} is not an image that can be read: {error}") from error


def _pixels(image: Image, mode: str) -> Tensor:
    """(1 or 3, height, width) float32, 0 to 1; deep gray always has one channel, since PIL would clip it to 8 bits."""
    if image.mode == "F":
        raise BadRequest("its pixels are floating-point numbers of no known range")
    if image.mode in DEEP_GRAY:
        deep = np.asarray(image).astype(np.float32) / 65535
        if deep.min() < 0 or deep.max() > 1:
            raise BadRequest("it has values outside 0 to 65535")
        return torch.from_numpy(deep)[None]
    if "transparency" in image.info:
        image = image.convert("RGBA")  # of a palette, where PIL warns of going straight to RGB
    shallow = np.asarray(image.convert(mode), np.float32) / 255
    return torch.from_numpy(np.atleast_3d(shallow)).permute(2, 0, 1)


def read_npz(path: str) -> Dataset:
    """Arrays in a file of `numpy.savez`, under the keys WHOLE, or SPLIT if the test images are apart.

    Images are uint8 (0 to 255) or floating-point (0 to 1), of shape (N, height, width) or, with 1 or 3 channels, (N, height,
    width, channels). Only if the last axis is neither 1 nor 3 long, and the second is, are channels taken to come first. Labels
    are integers 0 to K - 1 of shape (N,). `class_names`, K texts, may be added; without it a class is called as its label.

    Raises:
        BadRequest: no such file, or of another kind; other keys; types, shapes or values other than these; fewer than two
            classes; a class that is missing or too small to be split; class names that a forget spec cannot tell apart.
    """
    file = Path(path).expanduser().resolve()
    name = f"npz:{file}"
    if not file.is_file():
        raise BadRequest(f"{name}: there is no such file; allowed: one that numpy.savez wrote")
    arrays = _read_arrays(name, file)
    keys = set(arrays) - {CLASS_NAMES}
    if keys not in (set(WHOLE), set(SPLIT)):
        raise BadRequest(
            f"{name} holds the keys {', '.join(sorted(arrays)) or '(none)'};"
            f" allowed: {', '.join(WHOLE)}, or {', '.join(SPLIT)}, and either way {CLASS_NAMES}"
        )
    parts = ("",) if keys == set(WHOLE) else ("train_", "test_")
    classes = _class_names(name, arrays)
    labels = [_labels(name, part, arrays, classes) for part in parts]
    test_labels = labels[1] if len(parts) == 2 else None
    check_classes(name, classes, labels[0], test_labels)
    images = [_images(name, f"{part}images", arrays) for part in parts]
    if images[0].shape[1:] != images[-1].shape[1:]:
        raise BadRequest(f"{name}: training and test images must be of one shape, got " + " and ".join(map(_shape, images)))
    return divide(name, classes, torch.cat(images), labels[0], test_labels)


def _read_arrays(name: str, file: Path) -> Arrays:
    if not zipfile.is_zipfile(file):
        raise BadRequest(f"{name} is not an npz file, or not a whole one; allowed: one that numpy.savez wrote")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # of zipfile, zlib or NumPy
        raise BadRequest(f"{name} cannot be read: {error}; allowed: arrays of numbers or text, unbroken, no objects") from error
    return {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}


def _class_names(name: str, arrays: Arrays) -> list[str]:
    """The names given, else the labels there are, as text."""
    if CLASS_NAMES not in arrays:
        labels = arrays["labels" if "labels" in arrays else "train_labels"]
        return [str(label) for label in range(len(np.unique(labels)))]
    names = arrays[CLASS_NAMES]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise BadRequest(f"{name}: {CLASS_NAMES} is {names.dtype} of shape {_shape(names)}; allowed: text of shape (K,)")
    return [str(class_name) for class_name in names]


def _labels(name: str, part: str, arrays: Arrays, classes: list[str]) -> Tensor:
    """(N,) int64, one for each image, 0 to K - 1 with none missing."""
    key, count, labels = f"{part}labels", len(np.atleast_1d(arrays[f"{part}images"])), arrays[f"{part}labels"]
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise BadRequest(
            f"{name}: {key} is {labels.dtype} of shape {_shape(labels)};"
            f" allowed: integers of shape ({count},), one for each of {part}images"
        )
    found = np.unique(labels).tolist()
    if found != list(range(len(classes))):
        raise BadRequest(
            f"{name}: {key} holds {', '.join(map(str, found[:20]))}{', …' * (len(found) > 20)};"
            f" allowed: 0 to {len(classes) - 1}, each at least once"
        )
    return torch.from_numpy(labels.astype(np.int64))


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
