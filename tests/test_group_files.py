"""Files that say which group each training image is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hf_mlops import Dataset, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Assignment, Given
from hf_mlops.data.group_files import read_group_file

RANDOM = np.random.default_rng(0)
LABELS = np.arange(20) % 2
PIXELS = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 5), np.uint8)  # each pixel is the row
GROUPS = [f"site {row % 3 + 8}" for row in range(20)]  # site 8, site 9, site 10
TABLE = pd.DataFrame({"index": range(20), "group": GROUPS})


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """20 images that are not split, in a NumPy file."""
    np.savez(tmp_path / "own.npz", images=PIXELS, labels=LABELS)
    return f"npz:{tmp_path}/own.npz"


def rows_of(data: Dataset) -> list[dict[int, int]]:
    """Row and group of each image in training, validation and test."""
    return [
        dict(zip((split.images[:, 0, 0, 0] * 255).round().int().tolist(), split.groups.tolist(), strict=True))
        for split in (data.train, data.validation, data.test)
    ]


def write_csv(text: str, tmp_path: Path) -> Path:
    (tmp_path / "groups.csv").write_text(text)
    return tmp_path / "groups.csv"


WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "csv": lambda table, file: table.to_csv(file, index=False),
    "CSV": lambda table, file: table.to_csv(file, index=False),
    "parquet": lambda table, file: table.to_parquet(file),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_image_is_in_the_group_that_the_file_says_whatever_split_it_comes_to(
    ending: str, whole: str, tmp_path: Path
) -> None:
    file = tmp_path / f"groups.{ending}"
    WRITERS[ending](TABLE.sample(frac=1, random_state=0), file)
    data = load_dataset(whole, groups=str(file))
    assert data.groups.names == ("site 8", "site 9", "site 10")
    train, validation, test = rows_of(data)
    assert {**train, **validation, **test} == {row: row % 3 for row in range(20)}
    assert len(train) == 12 and len(validation) == len(test) == 4
    assert torch.equal(data.train.images, load_dataset(whole).train.images)


@pytest.mark.parametrize(
    "table",
    [
        TABLE.assign(index=TABLE["index"].astype(str)),
        TABLE.assign(index=[f"00{row}" for row in range(20)]),
        TABLE.assign(group=TABLE["group"].astype("category")),
        TABLE.assign(label=LABELS, image=[b"\xff"] * 20),
        TABLE.rename(columns={"index": " Index", "group": "GROUP "}),
        TABLE.set_index("index"),
        TABLE.assign(index=pd.array(range(20), dtype="UInt8")),
    ],
)
def test_a_parquet_files_columns_may_be_of_any_kind_and_its_index_one_of_them(
    table: pd.DataFrame, whole: str, tmp_path: Path
) -> None:
    table.to_parquet(tmp_path / "usual.parquet")
    TABLE.to_csv(tmp_path / "usual.csv", index=False)
    found = [load_dataset(whole, groups=tmp_path / f"usual.{ending}").digest for ending in ("parquet", "csv")]
    assert found[0] == found[1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_are_names_as_they_are_written_and_in_order(ending: str, whole: str, tmp_path: Path) -> None:
    table = TABLE.assign(group=[(10, 2, 9)[row % 3] for row in range(20)])
    WRITERS[ending](table, tmp_path / f"groups.{ending}")
    assert load_dataset(whole, groups=f"{tmp_path}/groups.{ending}").groups.names == ("2", "9", "10")


def test_text_that_pandas_would_take_for_nothing_or_a_number_stays_a_name(whole: str, tmp_path: Path) -> None:
    names = ["NA", "01", "1", "null"]
    table = TABLE.assign(group=[names[row % 4] for row in range(20)])
    table.to_csv(tmp_path / "groups.csv", index=False, encoding="utf-8-sig")
    assert load_dataset(whole, groups=tmp_path / "groups.csv").groups.names == ("01", "1", "NA", "null")


def test_a_file_is_noted_from_the_root_on_and_the_note_gives_the_same_data_again(
    whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a+b").mkdir()
    TABLE.to_csv(tmp_path / "a+b" / "my groups.csv", index=False)
    monkeypatch.chdir(tmp_path / "a+b")
    for given, noted in (
        ("my groups.csv", f"{tmp_path}/a+b/my groups.csv"),
        ("../a+b/my groups.csv+poison:patch:0.2", f"{tmp_path}/a+b/my groups.csv+poison:patch:0.2"),
    ):
        data = load_dataset(whole, groups=given)
        assert data.identity["grouping"] == noted
        monkeypatch.chdir("/")
        assert load_dataset(data.identity["name"], groups=data.identity["grouping"]).identity == data.identity
        monkeypatch.chdir(tmp_path / "a+b")
    assert data.groups.names == ("site 8", "site 9", "site 10", "poison")


def test_a_file_in_the_home_folder_is_found(whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    TABLE.to_csv(tmp_path / "mine.csv", index=False)
    assert load_dataset(whole, groups="~/mine.csv").grouping == f"{tmp_path}/mine.csv"


def test_images_are_counted_among_those_given_to_train_on_and_those_given_to_test_are_of_no_group(tmp_path: Path) -> None:
    apart = {"test_images": 255 - PIXELS[:4], "test_labels": LABELS[:4]}
    np.savez(tmp_path / "own.npz", train_images=PIXELS, train_labels=LABELS, **apart)
    TABLE.to_csv(tmp_path / "groups.csv", index=False)
    data = load_dataset(f"npz:{tmp_path}/own.npz", groups=tmp_path / "groups.csv")
    train, validation, test = rows_of(data)
    assert {**train, **validation} == {row: row % 3 for row in range(20)} and len(validation) == 2
    assert test == {255: -1, 254: -1, 253: -1, 252: -1}


def test_of_digits_all_images_are_counted_in_their_own_order(digits: Dataset, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    raw = load_digits()
    bright = raw.images.sum((1, 2)) > 300
    pd.DataFrame({"index": range(1797), "group": np.where(bright, "bright", "dark")}).to_csv(tmp_path / "g.csv", index=False)
    data = load_dataset("digits", groups=tmp_path / "g.csv")
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.groups, (split.images.sum((1, 2, 3)) <= 300 / 16).long())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table[table["index"] != 7],
            "1 of 20 images to train on are missing, with the index '7'; allowed: each of",
        ),
        (lambda table: table[:5], "15 of 20 images to train on are missing, with the index '5', '6', '7', …; allowed: each"),
        (lambda table: table[:0], "20 of 20 images to train on are missing, with the index '0', '1', '2', …"),
        (lambda table: pd.concat([table, table[3:5]]), "the index '3', '4' is there more than once; allowed: each image once"),
        (lambda table: table.replace({"index": {4: 20}}), "there is no image with the index '20'; allowed: 0 to 19"),
        (lambda table: table.replace({"index": {4: -1}}), "there is no image with the index '-1'; allowed: 0 to 19"),
        (lambda table: table.astype({"index": float}), r"there is no image with the index '0\.0', '1\.0', '2\.0', …"),
        (lambda table: table.assign(index=[f"{row}.png" for row in range(20)]), "no image with the index '0.png', '1.png', '2"),
        (lambda table: table.assign(group=[None, *GROUPS[1:]]), "the index '0' has no group; allowed: a name in every row"),
        (lambda table: table.assign(index=pd.array([None, *range(1, 20)], "Int64")), "there is no image with the index ''"),
        (
            lambda table: table.rename(columns={"index": "row"}),
            "has the columns row, group; allowed: a CSV or Parquet file with",
        ),
        (
            lambda table: table.rename(columns={"index": "file"}),
            "has the columns file, group; allowed: .* the columns index and",
        ),
        (lambda table: table.rename(columns={"group": "site"}), "has the columns index, site; allowed"),
        (
            lambda table: table.assign(GROUP="x"),
            "has the columns index, group, GROUP; allowed: a CSV or Parquet file with the col",
        ),
        (lambda table: table.assign(group="all"), "has 1 group; allowed: 2 to 100, since one is to be forgotten"),
        (lambda table: table.replace("site 9", "Site 8"), "the group names 'Site 8' and 'site 8' are not told apart; allowed"),
        (
            lambda table: table.replace("site 9", " site 8"),
            "the group name ' site 8' is not allowed; allowed: text without a comma",
        ),
        (lambda table: table.replace("site 9", "#1"), "the group name '#1' is not allowed"),
        (lambda table: table.replace("site 9", "8, 9"), "the group name '8, 9' is not allowed"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_does_not_fit_the_data_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, ending: str, whole: str, tmp_path: Path
) -> None:
    file = tmp_path / f"groups.{ending}"
    table = change(TABLE)
    WRITERS[ending](table, file)
    with pytest.raises(BadRequest, match=f"{file}.* {message}"):
        load_dataset(whole, groups=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            "cannot be read: No columns to parse from file; allowed: a CSV or Parquet file with the columns index and group, a",
        ),
        (b"index,group\n0,a\n1,b,c\n", "cannot be read: .*Expected 2 fields in line 3, saw 3; allowed"),
        (b"index,group\n0,\xff\n", "cannot be read: .* codec can't decode byte 0xff"),
        (b'index,group\n0,"a\n', "cannot be read: .*EOF inside string"),
        (b"index;group\n0;a\n", "has the columns index;group; allowed"),
        (b"0,a\n1,b\n", "has the columns 0, a; allowed"),
    ],
)
def test_text_that_is_no_table_of_groups_is_refused(content: bytes, message: str, whole: str, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(BadRequest, match=f"^{tmp_path}/groups.csv {message}"):
        load_dataset(whole, groups=tmp_path / "groups.csv")


def test_a_parquet_file_that_pandas_did_not_write_is_read_and_a_gap_in_it_is_told_as_one(whole: str, tmp_path: Path) -> None:
    file = tmp_path / "groups.parquet"
    pq.write_table(pa.table({"index": list(range(20)), "group": LABELS}), file)
    assert load_dataset(whole, groups=file).groups.names == ("0", "1")
    pq.write_table(pa.table({"index": [None, *range(1, 20)], "group": LABELS}), file)
    with pytest.raises(BadRequest, match=f"{file}: there is no image with the index ''; allowed: 0 to 19"):
        load_dataset(whole, groups=file)


@pytest.mark.parametrize("cut", [0, 4, 100])
def test_a_parquet_file_that_is_not_whole_is_refused(cut: int, whole: str, tmp_path: Path) -> None:
    TABLE.to_parquet(tmp_path / "groups.parquet")
    (tmp_path / "groups.parquet").write_bytes((tmp_path / "groups.parquet").read_bytes()[:cut])
    with pytest.raises(BadRequest, match=f"^{tmp_path}/groups.parquet cannot be read: .*; allowed: a CSV or Parquet file with"):
        load_dataset(whole, groups=tmp_path / "groups.parquet")


def test_a_file_that_is_not_there_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("none.csv", "none.parquet", "folder.csv"):
        with pytest.raises(
            BadRequest, match=f"groups={tmp_path}/{name}: there is no file {tmp_path}/{name}; allowed: a CSV or"
        ):
            load_dataset(f"npz:{tmp_path}/none.npz", groups=tmp_path / name)


def image_at(file: Path) -> None:
    """An image of random pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (4, 5), dtype=np.uint8)).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of each of two classes, and four beside them to test on."""
    for name in ("cat", "dog"):
        for number in range(10):
            image_at(tmp_path / "photos" / "train" / name / f"{number:02}.png")
        for number in range(2):
            image_at(tmp_path / "photos" / "test" / name / f"{number:02}.png")
    return tmp_path / "photos"


def by_person(photos: Path) -> list[tuple[str, str]]:
    return [(f"train/{name}/{n:02}.png", ("ann", "bob")[n % 2]) for name in ("cat", "dog") for n in range(10)]


def csv_of(rows: list[tuple[str, str]]) -> str:
    return "file,group\n" + "".join(f"{file},{group}\n" for file, group in rows)


def test_images_in_a_folder_go_by_their_path_in_it_and_test_images_may_be_left_out(photos: Path, tmp_path: Path) -> None:
    rows = by_person(photos)
    data = load_dataset(f"folder:{photos}", groups=write_csv(csv_of(rows[::-1]), tmp_path))
    assert data.groups.names == ("ann", "bob") and data.train.groups.bincount().sum() == 18
    assert data.validation.groups.min() >= 0 and data.test.groups.tolist() == [-1] * 4
    everything = torch.cat([data.train.images, data.validation.images])
    for image, group in zip(everything, torch.cat([data.train.groups, data.validation.groups]), strict=True):
        (file,) = [file for file, _ in rows if np.array_equal(pixels_of(photos / file), image[0].numpy())]
        assert dict(rows)[file] == ("ann", "bob")[group]
    some = [*rows, ("./test/dog//01.png", "bob")]
    assert load_dataset(f"folder:{photos}", groups=write_csv(csv_of(some), tmp_path)).test.groups.tolist() == [-1, -1, -1, 1]


def pixels_of(file: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(file), np.float32) / 255


def test_a_group_file_in_the_folder_is_used_unless_other_groups_are_asked_for(photos: Path, tmp_path: Path) -> None:
    plain = load_dataset(f"folder:{photos}").digest
    write_csv(csv_of(by_person(photos)), photos)
    data = load_dataset(f"folder:{photos}")
    assert data.groups.names == ("ann", "bob") and data.grouping == ""
    assert load_dataset(f"folder:{photos}", groups="class").digest == plain != data.digest
    assert load_dataset(f"folder:{photos}", groups=photos / "groups.csv").digest == data.digest
    photos.rename(tmp_path / "moved")
    load_dataset(f"folder:{tmp_path}/moved").require(data.identity)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            lambda rows: [*rows, ("train/cat/99.png", "ann")],
            "there is no image with the file 'train/cat/99.png'; allowed: paths",
        ),
        (
            lambda rows: [*rows, ("/train/cat/00.png", "ann")],
            "no image with the file '/train/cat/00.png'; .* such as train/cat/00",
        ),
        (lambda rows: rows[1:], "1 of 20 images to train on are missing, with the file 'train/cat/00.png'"),
        (
            lambda rows: [*rows, ("./train/cat/00.png", "bob")],
            "the file './train/cat/00.png', 'train/cat/00.png' is there more",
        ),
        (lambda rows: [*rows, ("test/cat/00.png", "eve")], "the group 'eve' has no training image"),
        (
            lambda rows: [(row, group) for row, (_, group) in enumerate(rows)],
            "there is no image with the file '0', '1', '2', …",
        ),
    ],
)
def test_a_file_that_does_not_fit_the_folder_is_refused_before_any_image_is_read(
    rows: Callable[[list[tuple[str, str]]], list[tuple[str, str]]], message: str, photos: Path
) -> None:
    write_csv(csv_of(rows(by_person(photos))), photos)
    (photos / "train" / "dog" / "09.png").write_bytes(b"broken")
    with pytest.raises(BadRequest, match=f"{photos}/groups.csv.* {message}"):
        load_dataset(f"folder:{photos}")


def test_a_file_of_numbers_is_not_for_a_folder(photos: Path) -> None:
    with pytest.raises(
        BadRequest, match=r"has the columns index, group; allowed: .* with the columns file and group, a row for"
    ):
        load_dataset(f"folder:{photos}", groups=write_csv("index,group\n0,ann\n", photos))


def test_names_are_in_alphabetical_order_and_numbers_in_them_by_size() -> None:
    names = ["b", "a10", "a9", "a 9", "a09", "a", "10", "9", "a9b1", "é"]
    assert Assignment.of_texts("here", names).names == ("9", "10", "a", "a09", "a9", "a9b1", "a10", "a 9", "b", "é")


def test_a_group_file_is_read_for_what_it_lists_alone(tmp_path: Path) -> None:
    rows = np.arange(4)
    given = Given("mine", ("a", "b"), rows % 2, (rows[:2], rows[2:3], rows[3:]), 3, lambda: np.zeros((4, 1, 1, 1), np.float32))
    assigned = read_group_file(write_csv("index,group\n2,x\n0,y\n1,x\n", tmp_path), given)
    assert assigned.names == ("x", "y") and assigned.groups.tolist() == [1, 0, 0, -1]
