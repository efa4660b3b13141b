"""Data of the user's own, from NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_mlops import Dataset, load_dataset
from hf_mlops.base.errors import BadRequest

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 5)
IMAGES = RANDOM.integers(0, 256, (15, 4, 5), dtype=np.uint8)
IMAGES[0, 0, :2] = 0, 255
TEST_IMAGES, VALIDATION_IMAGES = 255 - IMAGES[::5], IMAGES[1::5] // 2
APART = {"train_images": IMAGES, "train_labels": LABELS, "test_images": TEST_IMAGES, "test_labels": LABELS[::5]}


def load(tmp_path: Path, **arrays: Any) -> Dataset:
    np.savez(tmp_path / "own.npz", **arrays)
    return load_dataset(f"npz:{tmp_path}/own.npz")


def sizes(data: Dataset) -> list[list[int]]:
    """Images of each class in training, validation and test."""
    return [split.labels.bincount().tolist() for split in (data.train, data.validation, data.test)]


def test_a_numpy_file_is_split_60_20_20_within_each_class(tmp_path: Path) -> None:
    data = load(tmp_path, images=IMAGES, labels=LABELS)
    assert data.name == f"npz:{tmp_path}/own.npz" and data.class_names == data.groups.names == ("0", "1", "2")
    assert sizes(data) == [[3] * 3, [1] * 3, [1] * 3] and data.input_shape == (1, 4, 5)
    everything = torch.cat([split.images for split in (data.train, data.validation, data.test)]).flatten(1) * 255
    assert sorted(everything.round().int().tolist()) == sorted(IMAGES.reshape(15, -1).tolist())


def test_a_numpy_file_with_a_test_set_keeps_it(tmp_path: Path) -> None:
    data = load(tmp_path, **APART, class_names=["shirt", "Ankle boot", "bag"])
    assert data.class_names == ("shirt", "Ankle boot", "bag")
    assert sizes(data) == [[4] * 3, [1] * 3, [1] * 3]
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), TEST_IMAGES.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((15, 4, 5), (1, 4, 5)),
        ((15, 4, 5, 1), (1, 4, 5)),
        ((15, 4, 5, 3), (3, 4, 5)),
        ((15, 1, 4, 5), (1, 4, 5)),
        ((15, 3, 4, 5), (3, 4, 5)),
        ((15, 3, 4, 3), (3, 3, 4)),  # channels last, if both could be meant
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.float16, ">f4"])
def test_channels_come_last_or_else_first_and_values_are_bytes_or_shares(
    tmp_path: Path, shape: tuple[int, ...], kind: Any, kept: tuple[int, int, int]
) -> None:
    values = np.arange(1, 16) * 17  # a fifteenth of 255 each
    images = np.empty(shape, kind)
    images.T[:] = values if kind == np.uint8 else values / 255
    data = load(tmp_path, images=images, labels=LABELS)
    assert data.input_shape == kept
    everything = torch.cat([split.images for split in (data.train, data.validation, data.test)])
    assert everything.dtype == torch.float32
    assert everything.flatten(1).mean(1).sort().values.tolist() == pytest.approx([n / 15 for n in range(1, 16)], abs=1e-3)


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "VAL"])
def test_a_numpy_file_with_validation_and_test_sets_is_split_as_it_is(tmp_path: Path, spelling: str) -> None:
    own = {f"{spelling}_images": VALIDATION_IMAGES, f"{spelling}_labels": LABELS[::5]}
    data = load(tmp_path, **own, **APART)  # in whatever order
    assert sizes(data) == [[5] * 3, [1] * 3, [1] * 3]
    for split, images in ((data.train, IMAGES), (data.validation, VALIDATION_IMAGES), (data.test, TEST_IMAGES)):
        np.testing.assert_array_equal(split.images[:, 0].numpy(), images.astype(np.float32) / 255)


def test_a_validation_set_alone_is_kept_and_a_fifth_of_the_training_images_become_test(tmp_path: Path) -> None:
    data = load(tmp_path, train_images=IMAGES, train_labels=LABELS, val_images=VALIDATION_IMAGES, val_labels=LABELS[::5])
    assert sizes(data) == [[4] * 3, [1] * 3, [1] * 3]
    np.testing.assert_array_equal(data.validation.images[:, 0].numpy(), VALIDATION_IMAGES.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_train", "y_train"), ("X_train", "y_train"), ("train_x", "train_y"), ("images_training", "labels_training")],
)
def test_keys_may_be_called_in_the_usual_ways(tmp_path: Path, images: str, labels: str) -> None:
    usual = load(tmp_path, **APART)
    own = {images: IMAGES, labels: LABELS, "x_test": TEST_IMAGES, "Testing_Labels": LABELS[::5]}
    assert load(tmp_path, **own).digest == usual.digest


def test_images_and_labels_may_be_called_x_and_y(tmp_path: Path) -> None:
    assert load(tmp_path, x=IMAGES, y=LABELS).digest == load(tmp_path, images=IMAGES, labels=LABELS).digest


def test_labels_may_be_a_column(tmp_path: Path) -> None:
    columns = {key: array[:, None] if "labels" in key else array for key, array in APART.items()}
    assert load(tmp_path, **columns).digest == load(tmp_path, **APART).digest


def test_names_of_other_scripts_are_class_names(tmp_path: Path) -> None:
    assert load(tmp_path, images=IMAGES, labels=LABELS, class_names=["猫", "кот", "+"]).class_names == ("猫", "кот", "+")


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, r"\(none\)"),
        ({"images": IMAGES}, "images"),
        ({"images": IMAGES, "y_train": LABELS}, "images, y_train"),
        ({"train_images": IMAGES, "train_labels": LABELS}, "train_images, train_labels"),
        ({"x_val": IMAGES, "y_val": LABELS, "x_test": IMAGES, "y_test": LABELS}, "x_test, x_val, y_test, y_val"),
        ({**APART, "val_images": IMAGES}, "test_images, test_labels, train_images, train_labels, val_images"),
        ({**APART, "x_train": IMAGES}, "test_images, test_labels, train_images, train_labels, x_train"),
        ({**APART, "sizes": LABELS}, "sizes, test_images, test_labels, train_images, train_labels"),
        ({**APART, "images": IMAGES, "labels": LABELS}, "images, labels, test_images, test_labels, train_images, train_labels"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, arrays: dict[str, Any], found: str) -> None:
    allowed = "allowed: images and labels, or x and y; or such a pair for train and for val, test or both, as train_images, "
    with pytest.raises(BadRequest, match=f"own.npz holds the keys {found}; {allowed}"):
        load(tmp_path, **arrays)


def test_copies_of_an_image_in_two_splits_are_counted_and_said(tmp_path: Path) -> None:
    tests = TEST_IMAGES.copy()
    tests[:2] = IMAGES[0]
    own = {**APART, "test_images": tests, "val_images": VALIDATION_IMAGES, "val_labels": LABELS[::5]}
    told = "own.npz: 2 of the test images are training images too, pixel by pixel: figures on these say nothing of new images$"
    with pytest.warns(UserWarning, match=told):
        load(tmp_path, **own)
    own["val_images"] = tests[[0, 2, 2]]
    told = "1 of the validation images are training images too, 2 .* training images too, 3 of the test images are validation"
    with pytest.warns(UserWarning, match=told):
        load(tmp_path, **own)


FLOATS = IMAGES / 255


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES.astype(object)}, "cannot be read: Object arrays cannot be loaded"),
        ({"images": IMAGES.astype(str)}, "images is <U3; allowed: uint8"),
        ({"images": IMAGES > 100}, "images is bool; allowed"),
        ({"images": IMAGES.astype(np.int64)}, "images is int64; allowed: uint8"),
        ({"images": IMAGES + 0j}, "images is complex128; allowed"),
        ({"images": FLOATS * np.nan}, "images has values from nan to nan; allowed: 0 to 1, or uint8"),
        ({"images": FLOATS + np.inf}, "images has values from inf to inf; allowed: 0 to 1"),
        ({"images": FLOATS * 255}, "images has values from 0.0 to 255.0; allowed: 0 to 1"),
        ({"images": -FLOATS}, "images has values from -1.0 to -0.0; allowed: 0 to 1"),
        ({"images": IMAGES.reshape(15, 20)}, r"images has the shape \(15, 20\); allowed: \(N, height, width\)"),
        ({"images": np.zeros((15, 4, 5, 2), np.uint8)}, r"images has the shape \(15, 4, 5, 2\)"),
        ({"images": np.zeros((15, 0, 5), np.uint8)}, r"images has the shape \(15, 0, 5\)"),
        ({"images": np.uint8(3)}, r"labels is int64 of shape \(15,\); allowed: integers of shape \(1,\)"),
        ({"labels": LABELS[1:]}, r"of shape \(14,\); allowed: integers of shape \(15,\) or \(15, 1\), one for each of images"),
        ({"labels": np.eye(15, 3, dtype=int)}, r"labels is int64 of shape \(15, 3\); allowed"),
        ({"labels": LABELS[None]}, r"labels is int64 of shape \(1, 15\); allowed"),
        ({"labels": LABELS * 1.0}, "labels is float64 of shape"),
        ({"labels": LABELS.astype(str)}, "labels is <U21 of shape"),
        ({"labels": LABELS > 1}, "labels is bool of shape"),
        ({"labels": LABELS + 1}, "labels holds 1, 2, 3; allowed: 0 to 2, each at least once"),
        ({"labels": LABELS - 1}, "labels holds -1, 0, 1; allowed: 0 to 2"),
        ({"labels": LABELS * 10**15}, "labels holds 0, 1000000000000000, 2000000000000000; allowed: 0 to 2"),
        ({"labels": LABELS * 0}, "has 1 class; allowed: 2 or more"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has 0 classes; allowed: 2 or more"),
        ({"images": IMAGES[:12], "labels": LABELS[:12]}, "the class '2' has 2 images; allowed: at least 3"),
        ({"class_names": list("abcd")}, "labels holds 0, 1, 2; allowed: 0 to 3, each at least once"),
        ({"class_names": [1, 2, 3]}, r"class_names is int64 of shape \(3,\); allowed: text of shape \(K,\)"),
        ({"class_names": ["a", "b,c", "d"]}, "the class name 'b,c' is not allowed"),
        ({"class_names": ["a", "b", ""]}, "the class name '' is not allowed"),
        ({"class_names": ["a", "b", "A"]}, "the class names 'a' and 'A' are not told apart"),
        ({"class_names": ["a", "b", "#0"]}, "the class name '#0' is not allowed"),
    ],
)
def test_arrays_that_are_not_labelled_images_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=f"npz:{tmp_path}/own.npz.* {message}"):
        load(tmp_path, **{"images": IMAGES, "labels": LABELS, **arrays})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"test_labels": LABELS[:3]}, "test_labels holds 0; allowed: 0 to 2, each at least once"),
        ({"test_images": IMAGES[::5, 1:]}, r"of all splits must be of one shape, got \(15, 1, 4, 5\) and \(3, 1, 3, 5\)"),
        (
            {"train_images": IMAGES[:5], "train_labels": np.array([0, 0, 1, 2, 2])},
            "'1' has 1 training images; allowed: at least 2",
        ),
        ({"val_images": IMAGES[::5], "val_labels": LABELS[:3]}, "val_labels holds 0; allowed: 0 to 2, each at least once"),
    ],
)
def test_a_test_set_unlike_the_training_set_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        load(tmp_path, **{**APART, **arrays})


def test_a_file_that_numpy_did_not_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    with pytest.raises(BadRequest, match=f"npz:{file}: there is no such file; allowed: one that numpy.savez wrote"):
        load_dataset(f"npz:{file}")
    np.savez(file, images=IMAGES, labels=LABELS)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(BadRequest, match=f"npz:{file} is not an npz file, or not a whole one"):
            load_dataset(f"npz:{file}")
    file.write_bytes(whole.replace(IMAGES[0].tobytes(), IMAGES[1].tobytes()))
    with pytest.raises(BadRequest, match=f"npz:{file} cannot be read: Bad CRC-32"):
        load_dataset(f"npz:{file}")
