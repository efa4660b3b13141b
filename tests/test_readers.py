"""Data of the user's own, from image folders."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_mlops import Dataset, load_dataset
from hf_mlops.base.errors import BadRequest

RANDOM = np.random.default_rng(0)


def read_folder(path: str) -> Dataset:
    return load_dataset(f"folder:{path}")


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
    with pytest.raises(BadRequest, match="made from the data set"):
        load_dataset("folder:now there").require(before.identity)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Train", "Valid", "TEST"), ("training", "validation", "testing")],
)
def test_a_folder_with_all_three_splits_is_split_as_it_is(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for folder, classes in ((test, {"cat": 1, "dog": 2}), (validation, {"cat": 3, "dog": 1}), (train, {"cat": 1, "dog": 5})):
        write(tmp_path / folder, classes)
    data = read_folder(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert sizes(data) == [[1, 5], [3, 1], [1, 2]]
    for split, file in ((data.train, "dog/004.png"), (data.validation, "dog/000.png"), (data.test, "dog/001.png")):
        folder = {id(data.train): train, id(data.validation): validation, id(data.test): test}[id(split)]
        expected = np.asarray(Image.open(tmp_path / folder / file), np.float32) / 255
        np.testing.assert_array_equal(split.images[-1, 0].numpy(), expected)


def test_a_folder_with_a_validation_set_keeps_it_and_gives_a_fifth_of_the_others_to_test(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 20, "dog": 2})
    write(tmp_path / "val", {"cat": 1, "dog": 4})
    data = read_folder(str(tmp_path))
    assert sizes(data) == [[16, 1], [1, 4], [4, 1]]
    expected = np.asarray(Image.open(tmp_path / "val" / "dog" / "003.png"), np.float32) / 255
    np.testing.assert_array_equal(data.validation.images[-1, 0].numpy(), expected)


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "car": 3, "ship": 3})
    assert read_folder(str(tmp_path)).class_names == ("car", "ship", "train")


def test_class_names_are_of_any_script(tmp_path: Path) -> None:
    write(tmp_path, {"猫": 3, "кот": 3, "+": 3, "big-cat": 3, "big cat": 3})
    assert read_folder(str(tmp_path)).class_names == ("+", "big cat", "big-cat", "кот", "猫")


def test_folders_that_may_be_splits_of_other_names_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, {"trainset/cat": 2, "trainset/dog": 1, "testset/cat": 2, "testset/dog": 1})
    told = "the classes read are testset, trainset, although each of them holds cat, dog; for splits, allowed: PATH/CLASS/"
    with pytest.warns(UserWarning, match=told):
        assert sizes(read_folder(str(tmp_path))) == [[1, 1]] * 3


def of_customers(root: Path, *split: str) -> None:
    """Photos of two customers, in a folder each inside those of classes."""
    for part in split or ("",):
        write(root / part, {"cat/ann": 4, "cat/bob": 4, "dog/ann": 4, "dog/bob/more": 4, "dog/eve 2": 8, "cat/eve 10": 5})


@pytest.mark.parametrize("split", [(), ("train", "test"), ("Training", "val", "test")])
def test_folders_inside_classes_are_groups_where_that_is_asked_for(tmp_path: Path, split: tuple[str, ...]) -> None:
    of_customers(tmp_path, *split)
    data = load_dataset(f"folder:{tmp_path}", groups="folder")
    assert data.class_names == ("cat", "dog") and data.grouping == "folder"
    assert data.groups.names == ("ann", "bob", "eve 2", "eve 10")
    splits = (data.train, data.validation, data.test)
    images, groups = torch.cat([split.images for split in splits]), torch.cat([split.groups for split in splits])
    for file, group in (("dog/bob/more/001.png", 1), ("cat/eve 10/002.png", 3)):
        pixels = np.asarray(Image.open(tmp_path / "/".join(split[:1]) / file), np.float32) / 255
        assert groups[(images[:, 0] == torch.tensor(pixels)).flatten(1).all(1)].tolist() == [group]
    assert groups.bincount().tolist() == [count * max(1, len(split)) for count in (8, 8, 8, 5)]
    plain = load_dataset(f"folder:{tmp_path}")
    assert plain.groups.names == ("cat", "dog") and torch.equal(plain.test.images, data.test.images)


def test_test_images_in_no_folder_of_a_group_are_of_none(tmp_path: Path) -> None:
    of_customers(tmp_path, "train")
    write(tmp_path / "test", {"cat": 2, "cat/bob": 1, "dog": 1})
    data = load_dataset(f"folder:{tmp_path}", groups="folder")
    assert data.test.groups.tolist() == [-1, -1, 1, -1] and data.validation.groups.min() >= 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"train/cat": 1},
            "train/cat/000.png is in no folder of a group; allowed: PATH/CLASS/GROUP/\\*, or PATH/train/CLASS/GROUP",
        ),
        ({"test/cat/zoe": 1}, "folders inside classes: the group 'zoe' has no training image"),
        ({"train/cat/Ann": 1}, "folders inside classes: the group names 'Ann' and 'ann' are not told apart"),
        ({"train/cat/a,b": 1}, "folders inside classes: the group name 'a,b' is not allowed"),
        ({f"train/cat/{number}": 1 for number in range(97)}, "folders inside classes has 101 groups; allowed: 2 to 100, since"),
    ],
)
def test_folders_inside_classes_that_are_no_groups_are_refused(tmp_path: Path, more: dict[str, int], message: str) -> None:
    of_customers(tmp_path, "train", "test")
    write(tmp_path, more)
    with pytest.raises(BadRequest, match=f"folder:{tmp_path}: {message}"):
        load_dataset(f"folder:{tmp_path}", groups="folder")


def test_one_folder_inside_classes_is_no_group_to_forget(tmp_path: Path) -> None:
    write(tmp_path, {"cat/ann": 3, "dog/ann": 3})
    with pytest.raises(BadRequest, match="folders inside classes has 1 group; allowed: 2 to 100"):
        load_dataset(f"folder:{tmp_path}", groups="folder")


@pytest.mark.parametrize("name", ["digits", "npz:own.npz", "mnist"])
def test_data_that_lie_in_no_folder_have_no_folders_for_groups(name: str) -> None:
    with pytest.raises(BadRequest, match=f"^groups=folder is of folder:PATH alone, not of '{name}'; allowed: class, PATH.csv"):
        load_dataset(name, groups="folder")


@pytest.mark.parametrize("groups", ["", "class", "shard:2"])
def test_the_same_folders_in_every_class_are_told_of_unless_they_are_the_groups(tmp_path: Path, groups: str) -> None:
    write(tmp_path, {"cat/ann": 3, "cat/bob": 3, "dog/ann": 3, "dog/bob": 3})
    with pytest.warns(UserWarning, match="although each of them holds ann, bob; for splits, .*; for groups, groups=folder$"):
        load_dataset(f"folder:{tmp_path}", groups=groups)
    assert load_dataset(f"folder:{tmp_path}", groups="folder").groups.names == ("ann", "bob")
    poisoned = load_dataset(f"folder:{tmp_path}", groups="folder+poison:patch:0.2")
    assert poisoned.groups.names == ("ann", "bob", "poison") and poisoned.grouping == "folder+poison:patch:0.2"


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 1, "cat/kitten": 1, "cat/old/tom": 1, "dog/puppy": 3})
    assert sizes(read_folder(str(tmp_path))) == [[1, 1]] * 3


def test_hidden_names_are_passed_over_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "cat/indoors": 2, "dog": 5, ".cache": 1})
    before = read_folder(str(tmp_path)).digest
    for folder in ("cat/.ipynb_checkpoints", "dog/.thumbnails/large", "cat/indoors/.thumbnails"):
        write(tmp_path, {folder: 2})
    (tmp_path / "cat" / "._000.png").write_text("not an image")
    (tmp_path / "._x.png").write_text("not an image")
    assert read_folder(str(tmp_path)).digest == before


def test_images_are_read_in_alphabetical_order_whatever_the_disk_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"cat/b": 4, "cat/a/c": 2, "cat": 3, "dog": 5})
    before, walk = read_folder(str(tmp_path)).digest, os.walk
    monkeypatch.setattr(os, "walk", lambda *given, **options: reversed([*walk(*given, **options)]))
    assert read_folder(str(tmp_path)).digest == before


def test_endings_are_known_in_capitals_and_a_class_may_end_in_one(tmp_path: Path) -> None:
    write(tmp_path, {"cat.png": 3, "dog": 3})
    (tmp_path / "dog" / "001.png").rename(tmp_path / "dog" / "001.PNG")
    assert sizes(read_folder(str(tmp_path))) == [[1, 1]] * 3


def test_files_that_are_passed_over_are_counted_by_their_ending_and_said(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 3, "dog": 3})
    write(tmp_path / "test", {"cat": 3, "dog": 3})
    for file in (
        "train/cat/1.heic",
        "train/dog/inner/2.HEIC",
        "test/cat/3.gif",
        "test/dog/notes",
        "test/dog/.hidden",
        "about.txt",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("not read")
    told = "files that are passed over: 2 of .heic, 1 of .gif, 1 of no ending; read are .jpg, .jpeg, .jfif, .png,"
    with pytest.warns(UserWarning, match=re.escape(f"folder:{tmp_path}: {told}")) as caught:
        assert sizes(read_folder(str(tmp_path))) == [[2, 2], [1, 1], [3, 3]]
    assert len(caught) == 1


def test_of_many_endings_the_most_frequent_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    for number in range(12):
        (tmp_path / "cat" / f"a.{number}").touch()
    (tmp_path / "cat" / "b.11").touch()
    with pytest.warns(UserWarning, match=r"passed over: 2 of \.11, 1 of \.\d+(, 1 of \.\d+){8}, …; read are"):
        read_folder(str(tmp_path))


@pytest.mark.parametrize("beside", ["", "train", "test"])
def test_images_in_no_class_are_counted_and_said(tmp_path: Path, beside: str) -> None:
    for split in ("train", "test"):
        write(tmp_path / split, {"cat": 3, "dog": 3})
    write(tmp_path, {beside: 2})
    with pytest.warns(UserWarning, match=f": 2 images in no class are passed over, such as {tmp_path / beside / '000.png'}$"):
        read_folder(str(tmp_path))


def test_copies_of_an_image_in_two_splits_are_counted_and_said(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write(tmp_path / split, {"cat": 3, "dog": 3})
    shutil.copy(tmp_path / "train" / "cat" / "000.png", tmp_path / "test" / "dog" / "001.png")
    Image.open(tmp_path / "train" / "dog" / "002.png").save(tmp_path / "test" / "cat" / "001.tiff")
    told = f"folder:{tmp_path}: 2 of the test images are training images too, pixel by pixel: figures on these say nothing"
    with pytest.warns(UserWarning, match=told):
        read_folder(str(tmp_path))


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"cat": 3, "dog/inner": 3})
    scandir = os.scandir

    def closed(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(BadRequest, match=f"folder:{tmp_path} cannot be read: .*Permission denied: '{tmp_path}/dog/inner'"):
        read_folder(str(tmp_path))


def deep() -> Image.Image:
    return Image.fromarray(RANDOM.integers(30000, 32769, (4, 5), dtype=np.uint16))


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
    brightness = read_folder(str(tmp_path)).train.images[0]
    assert brightness.shape == (1, 4, 5) and 30000 / 65536 < brightness.min() < brightness.max() < 32769 / 65535
    write(tmp_path, {"dog": 3}, colour)
    data = read_folder(str(tmp_path))
    assert data.input_shape == (3, 4, 5)
    assert torch.equal(data.train.images[0], brightness.expand(3, 4, 5))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "there is no folder in .*; allowed: a folder for each class"),
        ({"cat": 9}, "has 1 class; allowed: 2 or more"),
        ({"cat": 9, "dog": 0}, r"there is no image in .*dog; allowed: \.jpg, \.jpeg, \.jfif, \.png"),
        ({"cat": 9, "dog": 2}, "the class 'dog' has 2 images; allowed: at least 3"),
        ({"cat": 9, "cat,dog": 9}, "the class name 'cat,dog' is not allowed"),
        ({"cat": 9, " dog": 9}, "the class name ' dog' is not allowed"),
        ({"cat": 9, "#1": 9}, "the class name '#1' is not allowed; allowed: text .*, and not # with a number"),
        ({"cat": 9, "CAT": 9}, "the class names 'CAT' and 'cat' are not told apart"),
        ({"\xe9": 9, "e\u0301": 9}, "the class names 'e\u0301' and '\xe9' are not told apart"),
        (
            {"train/cat": 9, "train/dog": 9, "test/cat": 9},
            "test and train must hold the same classes; not in each of them: dog",
        ),
        (
            {"train/cat": 9, "train/dog": 1, "test/cat": 1, "test/dog": 1},
            "the class 'dog' has 1 training images; allowed: at least 2",
        ),
        ({"train/cat": 9, "train/dog": 9, "test/cat": 1, "test/dog": 0}, r"there is no image in .*test/dog"),
        ({"train/cat": 9, "test/cat": 9, "val/cat": 9}, "has 1 class; allowed: 2 or more"),
        (
            {"train/cat": 9, "train/dog": 1, "val/cat": 1, "val/dog": 1},
            "the class 'dog' has 1 training images; allowed: at least 2",
        ),
        (
            {"train/cat": 9, "train/dog": 9, "val/cat": 9, "val/dog": 9, "test/cat": 9, "test/cow": 9},
            "test and train and val must hold the same classes; not in each of them: cow, dog",
        ),
        (
            {"train/cat": 9, "test/cat": 9, "more/cat": 9},
            "holds more, test, train; allowed: PATH/CLASS/.*, or PATH/train",
        ),
        ({"train/cat": 9, "Training/cat": 9}, "holds Training, train; allowed: PATH/CLASS"),
        ({"train/cat": 9, "val/cat": 9, "valid/cat": 9}, "holds train, val, valid; allowed"),
        ({"val/cat": 9, "test/cat": 9}, "holds test, val; allowed: PATH/CLASS/.*, or PATH/train/CLASS"),
        ({"train/cat": 9, "train/dog": 9}, "holds train; allowed: PATH/CLASS/.*, or PATH/train/CLASS"),
        ({"test/cat": 9, "test/dog": 9, "unlabelled": 9}, "holds test, unlabelled; allowed: PATH/CLASS"),
    ],
)
def test_a_folder_that_cannot_be_split_into_classes_is_refused(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    write(tmp_path, classes)
    with pytest.raises(BadRequest, match=message):
        read_folder(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "photos", Path(__file__)):
        with pytest.raises(BadRequest, match=f"folder:{path}: there is no such folder; allowed: PATH/CLASS/"):
            read_folder(str(path))


def test_images_of_two_sizes_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    first, last = tmp_path / "cat" / "000.png", tmp_path / "dog" / "002.png"
    first.write_bytes(first.read_bytes()[:60])
    gray(7, 6).save(last)
    with pytest.raises(BadRequest, match=f"but {first} has 5×4 pixels and {last} has 6×7"):
        read_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: b"", "is not an image that can be read: cannot identify its format$"),
        (lambda whole: whole[:20], "is not an image that can be read"),
        (lambda whole: whole[: len(whole) // 2], "is not an image that can be read"),
        (lambda whole: whole[:50] + b"\xff\xff" + whole[52:], "is not an image that can be read"),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, content: Callable[[bytes], bytes], message: str) -> None:
    write(tmp_path, {"cat": 3, "dog": 3}, lambda: gray(40, 50))
    file = tmp_path / "dog" / "001.png"
    file.write_bytes(content(file.read_bytes()))
    with pytest.raises(BadRequest, match=f"{file} {message}"):
        read_folder(str(tmp_path))


def test_pixels_of_no_known_range_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    file = tmp_path / "dog" / "003.tiff"
    for mode, message in (("F", "floating-point numbers of no known range"), ("I", "values outside 0 to 65535")):
        Image.new(mode, (5, 4), 70000).save(file)
        with pytest.raises(BadRequest, match=f"{file} is not an image that can be read: it.* {message}"):
            read_folder(str(tmp_path))


def test_reading_is_silent_while_it_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    read_folder(str(tmp_path))
    assert capsys.readouterr().err == ""
