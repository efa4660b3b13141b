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


GROUPS = np.arange(15) % 4
NUMBERED = np.arange(15, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 5), np.uint8)  # each pixel is the row


def in_groups(data: Dataset) -> list[dict[int, str | None]]:
    """Row of each image of `NUMBERED` in training, validation and test, and the name of its group."""
    names = (*data.groups.names, None)
    return [
        dict(zip((split.images[:, 0, 0, 0] * 255).round().int().tolist(), [names[g] for g in split.groups], strict=True))
        for split in (data.train, data.validation, data.test)
    ]


def test_groups_in_the_file_go_with_their_images_through_the_split(tmp_path: Path) -> None:
    data = load(tmp_path, images=NUMBERED, labels=LABELS, groups=GROUPS)
    assert data.groups.names == ("0", "1", "2", "3") and data.grouping == ""
    together = {row: name for split in in_groups(data) for row, name in split.items()}
    assert together == {row: str(row % 4) for row in range(15)}


@pytest.mark.parametrize("groups", [GROUPS[:, None], GROUPS.astype(np.uint8), GROUPS.astype(str), GROUPS.astype(str)[:, None]])
def test_groups_are_numbers_or_names_and_may_be_a_column(tmp_path: Path, groups: np.ndarray[Any, Any]) -> None:
    assert (
        load(tmp_path, images=IMAGES, labels=LABELS, groups=groups).digest
        == load(tmp_path, images=IMAGES, labels=LABELS, groups=GROUPS).digest
    )


def test_numbered_groups_have_the_names_given_and_named_ones_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    data = load(tmp_path, images=NUMBERED, labels=LABELS, groups=GROUPS, group_names=["Zoë", "b", "客户", "a"])
    assert data.groups.names == ("Zoë", "b", "客户", "a")
    assert {name for split in in_groups(data) for row, name in split.items() if row % 4 == 2} == {"客户"}
    texts = np.array(["site 9", "site 10", "Site 2", "site 9b"])[GROUPS]
    assert load(tmp_path, images=IMAGES, labels=LABELS, groups=texts).groups.names == ("Site 2", "site 9", "site 9b", "site 10")


def test_images_cut_off_the_training_images_keep_their_group_and_those_given_apart_have_none(tmp_path: Path) -> None:
    own = {"train_images": NUMBERED, "train_labels": LABELS, "train_groups": GROUPS}
    data = load(tmp_path, **own, test_images=TEST_IMAGES, test_labels=LABELS[::5])
    train, validation, _ = in_groups(data)
    assert {**train, **validation} == {row: str(row % 4) for row in range(15)} and len(validation) == 3
    assert data.test.groups.tolist() == [-1] * 3 and not any(data.groups.held_out)
    data = load(tmp_path, **own, val_images=TEST_IMAGES, val_labels=LABELS[::5])
    train, _, test = in_groups(data)
    assert {**train, **test} == {row: str(row % 4) for row in range(15)} and data.validation.groups.tolist() == [-1] * 3


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [(GROUPS, [3, -1, 0], [1, 1, -1]), (np.array(list("abcd"))[GROUPS], ["d", "", "a"], ["b", "b", ""])],
)
@pytest.mark.parametrize("key", ["groups_{}", "{}_groups", "{}_Groups"])
def test_held_out_images_given_apart_may_have_a_group_or_none(
    tmp_path: Path, train: np.ndarray[Any, Any], validation: list[Any], test: list[Any], key: str
) -> None:
    images = {**APART, "val_images": VALIDATION_IMAGES, "val_labels": LABELS[::5]}
    groups = dict(zip(map(key.format, ("training", "valid", "test")), (train, validation, test), strict=True))
    data = load(tmp_path, **images, **groups)
    assert data.train.groups.tolist() == GROUPS.tolist()
    assert data.validation.groups.tolist() == [3, -1, 0] and data.test.groups.tolist() == [1, 1, -1]
    del groups[key.format("valid")]
    assert load(tmp_path, **images, **groups).validation.groups.tolist() == [-1] * 3


@pytest.mark.parametrize("groups", ["class", "shard:3", "poison:flip:0.5"])
def test_groups_of_the_file_are_not_looked_at_where_others_are_asked_for(tmp_path: Path, groups: str) -> None:
    plain, odd = tmp_path / "plain", tmp_path / "odd"
    plain.mkdir(), odd.mkdir()
    np.savez(plain / "own.npz", images=IMAGES, labels=LABELS)
    np.savez(odd / "own.npz", images=IMAGES, labels=LABELS, groups=GROUPS * 1.5)
    digests = {load_dataset(f"npz:{folder}/own.npz", groups=groups).digest for folder in (plain, odd)}
    assert len(digests) == 1
    with pytest.raises(BadRequest, match="groups is float64"):
        load_dataset(f"npz:{odd}/own.npz")


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"images": IMAGES, "labels": LABELS, "train_groups": GROUPS}, "images, labels, train_groups"),
        ({**APART, "groups": GROUPS}, "groups, test_images, test_labels, train_images, train_labels"),
        ({**APART, "test_groups": GROUPS[:3]}, "test_groups, test_images, test_labels, train_images, train_labels"),
        (
            {**APART, "train_groups": GROUPS, "val_groups": GROUPS[:3]},
            "test_images, test_labels, train_groups, train_images, tr",
        ),
        ({**APART, "train_groups": GROUPS, "groups_train": GROUPS}, "groups_train, test_images, test_labels, train_groups"),
        ({"images": IMAGES, "labels": LABELS, "group_names": ["a", "b"]}, "group_names, images, labels"),
        ({"images": IMAGES, "groups": GROUPS}, "groups, images"),
    ],
)
def test_groups_of_other_images_than_there_are_are_refused(tmp_path: Path, arrays: dict[str, Any], found: str) -> None:
    allowed = (
        "allowed: images and labels, .*; and groups, or train_groups with or without val_groups and test_groups, and group"
    )
    with pytest.raises(BadRequest, match=f"own.npz holds the keys {found}.*; {allowed}_names$"):
        load(tmp_path, **arrays)


TEXTS = np.array(list("abcd"))[GROUPS]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"groups": GROUPS[1:]},
            r"groups is int64 of shape \(14,\); allowed: integers or text of shape \(15,\) or \(15, 1\), one",
        ),
        ({"groups": GROUPS[None]}, r"groups is int64 of shape \(1, 15\); allowed: integers or text"),
        ({"groups": GROUPS * 1.0}, "groups is float64 of shape"),
        ({"groups": GROUPS > 1}, "groups is bool of shape"),
        ({"groups": TEXTS.astype("S")}, r"groups is \|S1 of shape"),
        ({"groups": GROUPS + 1}, "groups holds 1, 2, 3, 4; allowed: 0 to 3, each at least once"),
        ({"groups": GROUPS - 1}, "groups holds -1, 0, 1, 2; allowed: 0 to 3, each at least once"),
        ({"groups": GROUPS, "group_names": list("abc")}, "groups holds 0, 1, 2, 3; allowed: 0 to 2, each at least once"),
        ({"groups": GROUPS, "group_names": list("abcde")}, "groups holds 0, 1, 2, 3; allowed: 0 to 4, each at least once"),
        (
            {"groups": GROUPS, "group_names": [1, 2, 3, 4]},
            r"group_names is int64 of shape \(4,\); allowed: text of shape \(K,\)",
        ),
        ({"groups": GROUPS, "group_names": ["a", "b,c", "d", "e"]}, "groups: the group name 'b,c' is not allowed"),
        ({"groups": GROUPS, "group_names": ["a", "b", "A", "e"]}, "groups: the group names 'a' and 'A' are not told apart"),
        (
            {"groups": TEXTS, "group_names": list("abcd")},
            "groups are <U1, group_names is there; allowed: all text, without group_",
        ),
        ({"groups": np.where(GROUPS, TEXTS, "")}, "groups: the group name '' is not allowed"),
        ({"groups": np.array(list("xX"))[GROUPS % 2]}, "groups: the group names 'X' and 'x' are not told apart"),
        ({"groups": GROUPS * 0}, "groups has 1 group; allowed: 2 to 100, since one is to be forgotten"),
    ],
)
def test_groups_that_cannot_be_told_apart_or_are_no_groups_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=f"npz:{tmp_path}/own.npz: {message}"):
        load(tmp_path, images=IMAGES, labels=LABELS, **arrays)


@pytest.mark.parametrize(
    ("test_groups", "message"),
    [
        ([0, 4, 1], "test_groups holds 0, 1, 4; allowed: -1 to 3"),
        ([0, -2, 1], "test_groups holds -2, 0, 1; allowed: -1 to 3"),
        (
            ["0", "1", "2"],
            "train_groups and test_groups are int64, <U1, group_names not there; allowed: all text, without group_",
        ),
        ([0, 1], r"test_groups is int64 of shape \(2,\); allowed: integers or text of shape \(3,\)"),
    ],
)
def test_groups_of_test_images_that_are_not_those_of_training_images_are_refused(
    tmp_path: Path, test_groups: list[Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        load(tmp_path, **APART, train_groups=GROUPS, test_groups=test_groups)


def test_a_named_group_of_test_images_alone_is_refused(tmp_path: Path) -> None:
    told = "train_groups and test_groups: the group 'z' has no training image, once validation, test and poison are taken out"
    with pytest.raises(BadRequest, match=told):
        load(tmp_path, **APART, train_groups=TEXTS, test_groups=["a", "z", "b"])


def test_a_group_whose_images_are_all_held_out_is_refused(tmp_path: Path) -> None:
    data = load(tmp_path, images=NUMBERED, labels=LABELS)
    row = int(data.test.images[0, 0, 0, 0] * 255 + 0.5)
    with pytest.raises(BadRequest, match="groups: the group '1' has no training image, once validation, test and poison are"):
        load(tmp_path, images=NUMBERED, labels=LABELS, groups=(np.arange(15) == row).astype(int))


def test_ten_thousand_groups_are_refused_with_the_limit_and_why(tmp_path: Path) -> None:
    images, labels = np.zeros((10000, 1, 1), np.uint8), np.arange(10000) % 2
    with pytest.raises(BadRequest, match=r"groups has 10000 groups; allowed: 2 to 100, since of 1,024 or 2,048 runs"):
        load(tmp_path, images=images, labels=labels, groups=np.arange(10000))
