"""Data of the user's own, from image folders and NumPy files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_mlops import Dataset, load_dataset
from hf_mlops.data.readers import read_folder

RANDOM = np.random.default_rng(0)


def gray(height: int = 4, width: int = 5) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width), dtype=np.uint8))


def colour(height: int = 4, width: int = 5) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def write(folder: Path, classes: dict[str, int], make: Callable[[], Image.Image] = gray) -> None:
    """So many images of each class."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            make().save(folder / name / f"{number:03}.png")


def sizes(data: Dataset) -> list[list[int]]:
    """Images of each class in training, validation and test."""
    return [split.labels.bincount().tolist() for split in (data.train, data.validation, data.test)]


def test_a_folder_of_classes_is_split_60_20_20_within_each_class(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 20, "dog": 10, "Ankle boot": 3})
    data = read_folder(str(tmp_path))
    assert data.class_names == data.groups.names == ("Ankle boot", "cat", "dog")
    assert sizes(data) == [[1, 12, 6], [1, 4, 2], [1, 4, 2]]
    assert data.input_shape == (1, 4, 5) and data.train.images.dtype == torch.float32
    everything = torch.cat([split.images for split in (data.train, data.validation, data.test)]).flatten(1)
    assert len(everything.unique(dim=0)) == 33
    assert all(torch.equal(split.groups, split.labels) for split in (data.train, data.validation, data.test))


def test_a_folder_with_a_test_set_keeps_it_and_gives_a_tenth_of_the_others_to_validation(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 20, "dog": 2})
    write(tmp_path / "test", {"cat": 1, "dog": 4})
    data = read_folder(str(tmp_path))
    assert sizes(data) == [[18, 1], [2, 1], [1, 4]]
    expected = np.asarray(Image.open(tmp_path / "test" / "dog" / "003.png"), np.float32) / 255
    np.testing.assert_array_equal(data.test.images[-1, 0].numpy(), expected)


def test_a_folder_that_moved_is_the_same_data_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here", {"cat": 5, "dog": 5})
    before = load_dataset(f"folder:{tmp_path}/here")
    assert before.name == f"folder:{tmp_path}/here"
    (tmp_path / "here").rename(tmp_path / "now there")
    monkeypatch.chdir(tmp_path)
    after = load_dataset("folder:now there")
    assert after.name == f"folder:{tmp_path}/now there"
    after.require(before.identity)
    gray().save(tmp_path / "now there" / "cat" / "000.png")
    with pytest.raises(ValueError, match="made from the data set"):
        load_dataset("folder:now there").require(before.identity)


def test_hidden_names_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3, ".cache": 1})
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._000.png").write_text("not an image")
    assert sizes(read_folder(str(tmp_path))) == [[1, 1]] * 3


def deep() -> Image.Image:
    return Image.fromarray(np.full((4, 5), 32768, np.uint16))


def palette() -> Image.Image:
    image = colour().quantize(8)
    image.info["transparency"] = bytes(8)
    return image


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (gray, 1),
        (deep, 1),
        (lambda: gray().convert("1"), 1),
        (colour, 3),
        (palette, 3),
        (lambda: colour().convert("RGBA"), 3),
        (lambda: gray().convert("LA"), 3),
    ],
)
def test_gray_images_keep_one_channel_and_all_others_become_rgb(
    tmp_path: Path, make: Callable[[], Image.Image], channels: int
) -> None:
    write(tmp_path, {"cat": 3, "dog": 3}, make)
    data = read_folder(str(tmp_path))
    assert data.input_shape == (channels, 4, 5)
    assert data.train.images.min() >= 0 and data.train.images.max() <= 1


def test_sixteen_bits_keep_their_brightness_alone_and_among_colour_images(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3}, deep)
    assert read_folder(str(tmp_path)).train.images.unique().tolist() == [pytest.approx(32768 / 65535)]
    write(tmp_path, {"dog": 3}, colour)
    data = read_folder(str(tmp_path))
    assert data.input_shape == (3, 4, 5)
    assert data.train.images[0].unique().tolist() == [pytest.approx(32768 / 65535)]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "there is no folder in .*; allowed: a folder for each class"),
        ({"cat": 9}, "has 1 class; allowed: 2 or more"),
        ({"cat": 9, "dog": 0}, r"there is no image in .*dog; allowed: \.jpg, \.jpeg, \.png"),
        ({"cat": 9, "dog": 2}, "the class 'dog' has 2 images; allowed: at least 3"),
        ({"cat": 9, "cat,dog": 9}, "the class name 'cat,dog' is not allowed"),
        ({"cat": 9, " dog": 9}, "the class name ' dog' is not allowed"),
        ({"cat": 9, "+": 9}, "the class name '[+]' is not allowed; allowed: text with a letter a-z or a digit in it"),
        ({"cat": 9, "CAT": 9}, "the class names 'CAT' and 'cat' are not told apart"),
        ({"big cat": 9, "big-cat": 9}, "the class names 'big cat' and 'big-cat' are not told apart"),
        (
            {"train/cat": 9, "train/dog": 9, "test/cat": 9},
            "train and test must hold the same classes; only in one of them: dog",
        ),
        (
            {"train/cat": 9, "train/dog": 1, "test/cat": 1, "test/dog": 1},
            "the class 'dog' has 1 training images; allowed: at least 2",
        ),
        ({"train/cat": 9, "train/dog": 9, "test/cat": 1, "test/dog": 0}, r"there is no image in .*test/dog"),
        ({"train/cat": 9, "test/cat": 9, "val/cat": 9}, "holds test, train, val; allowed: train and test alone"),
    ],
)
def test_a_folder_that_cannot_be_split_into_classes_is_refused(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    write(tmp_path, classes)
    with pytest.raises(ValueError, match=message):
        read_folder(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "photos", Path(__file__)):
        with pytest.raises(ValueError, match=f"folder:{path}: there is no such folder; allowed: one with CLASS"):
            read_folder(str(path))


def test_images_of_two_sizes_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    first, last = tmp_path / "cat" / "000.png", tmp_path / "dog" / "002.png"
    first.write_bytes(first.read_bytes()[:60])
    gray(7, 6).save(last)
    with pytest.raises(ValueError, match=f"but {first} has 5×4 pixels and {last} has 6×7"):
        read_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: b"", "is not an image that can be read: cannot identify"),
        (lambda whole: whole[:20], "is not an image that can be read"),
        (lambda whole: whole[: len(whole) // 2], "is not an image that can be read"),
        (lambda whole: whole[:50] + b"\xff\xff" + whole[52:], "is not an image that can be read"),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, content: Callable[[bytes], bytes], message: str) -> None:
    write(tmp_path, {"cat": 3, "dog": 3}, lambda: gray(40, 50))
    file = tmp_path / "dog" / "001.png"
    file.write_bytes(content(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{file} {message}"):
        read_folder(str(tmp_path))


def test_pixels_of_no_known_range_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    file = tmp_path / "dog" / "003.tiff"
    for mode, message in (("F", "floating-point numbers of no known range"), ("I", "values outside 0 to 65535")):
        Image.new(mode, (5, 4), 70000).save(file)
        with pytest.raises(ValueError, match=f"{file} is not an image that can be read: it.* {message}"):
            read_folder(str(tmp_path))


def test_reading_is_silent_while_it_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    read_folder(str(tmp_path))
    assert capsys.readouterr().err == ""


LABELS = np.repeat(np.arange(3), 5)
IMAGES = RANDOM.integers(0, 256, (15, 4, 5), dtype=np.uint8)
IMAGES[0, 0, :2] = 0, 255
APART = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[::5], "test_labels": LABELS[::5]}


def load(tmp_path: Path, **arrays: Any) -> Dataset:
    np.savez(tmp_path / "own.npz", **arrays)
    return load_dataset(f"npz:{tmp_path}/own.npz")


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
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), IMAGES[::5].astype(np.float32) / 255)


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
    images = np.zeros(shape, kind)
    images[0] = 255 if kind == np.uint8 else 1
    data = load(tmp_path, images=images, labels=LABELS)
    assert data.input_shape == kept
    everything = torch.cat([split.images for split in (data.train, data.validation, data.test)])
    assert everything.dtype == torch.float32 and everything.flatten(1).mean(1).sort().values.tolist() == [0.0] * 14 + [1.0]


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, r"\(none\)"),
        ({"images": IMAGES}, "images"),
        ({"x": IMAGES, "y": LABELS}, "x, y"),
        ({**APART, "val_images": IMAGES}, "test_images, test_labels, train_images, train_labels, val_images"),
        ({**APART, "images": IMAGES, "labels": LABELS}, "images, labels, test_images, test_labels, train_images, train_labels"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, arrays: dict[str, Any], found: str) -> None:
    allowed = "allowed: images, labels, or train_images, train_labels, test_images, test_labels, and either way class_names"
    with pytest.raises(ValueError, match=f"own.npz holds the keys {found}; {allowed}"):
        load(tmp_path, **arrays)


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
        ({"labels": LABELS[1:]}, r"of shape \(14,\); allowed: integers of shape \(15,\), one for each of images"),
        ({"labels": LABELS[:, None]}, r"labels is int64 of shape \(15, 1\); allowed"),
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
    ],
)
def test_arrays_that_are_not_labelled_images_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"npz:{tmp_path}/own.npz.* {message}"):
        load(tmp_path, **{"images": IMAGES, "labels": LABELS, **arrays})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"test_labels": LABELS[:3]}, "test_labels holds 0; allowed: 0 to 2, each at least once"),
        ({"test_images": IMAGES[::5, 1:]}, r"must be of one shape, got \(15, 1, 4, 5\) and \(3, 1, 3, 5\)"),
        (
            {"train_images": IMAGES[:5], "train_labels": np.array([0, 0, 1, 2, 2])},
            "'1' has 1 training images; allowed: at least 2",
        ),
    ],
)
def test_a_test_set_unlike_the_training_set_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **{**APART, **arrays})


def test_a_file_that_numpy_did_not_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    with pytest.raises(ValueError, match=f"npz:{file}: there is no such file; allowed: one that numpy.savez wrote"):
        load_dataset(f"npz:{file}")
    np.savez(file, images=IMAGES, labels=LABELS)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"npz:{file} is not an npz file, or not a whole one"):
            load_dataset(f"npz:{file}")
    file.write_bytes(whole.replace(IMAGES[0].tobytes(), IMAGES[1].tobytes()))
    with pytest.raises(ValueError, match=f"npz:{file} cannot be read: Bad CRC-32"):
        load_dataset(f"npz:{file}")
