"""How training images are grouped: what the text says, and that groups of classes are what they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_mlops import Dataset, Split, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.groups import Groups
from hf_mlops.data.dataset import LIMIT

LABELS = np.arange(15) % 3
PIXELS = np.zeros((15, 2, 2), np.uint8)
PIXELS[:, 0, 0] = np.arange(15)  # the row
APART = np.zeros((3, 2, 2), np.uint8)
APART[:, 0, 0] = 100, 101, 102


def splits(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.validation, data.test


def rows(tmp_path: Path, **arrays: np.ndarray) -> list[list[int]]:
    """First pixel of each image in training, validation and test."""
    np.savez(tmp_path / "own.npz", **arrays)
    data = load_dataset(f"npz:{tmp_path}/own.npz")
    return [(split.images[:, 0, 0, 0] * 255).round().int().tolist() for split in splits(data)]


def test_digits_are_split_and_ordered_as_they_were_before_there_were_groups_but_classes(digits: Dataset) -> None:
    sha = hashlib.sha256()
    for split in splits(digits):
        for tensor in (split.images, split.labels, split.groups):
            sha.update(tensor.contiguous().numpy().tobytes())
    assert sha.hexdigest()[:16] == "756f7e10fcb84c89"  # of version 0.1.0


@pytest.mark.parametrize(
    ("groups", "digest"),
    [
        ("class", "c60b35f453c7aafe"),
        ("shard:20", "5099661335f561bf"),
        ("dirichlet:10:0.3", "81b4eb35817d944f"),
        ("class-shard:10", "296798f9734c4cbb"),
        ("poison:patch:0.05", "f5a305d4649b964f"),
        ("poison:blend:0.05", "1b2e840809f253e5"),
        ("poison:flip:0.6", "4fa0ccbab9626275"),
        ("class+poison:patch:0.05", "16eb4bcd5978d81b"),
        ("shard:20+poison:blend:0.05:known=0.5", "511b1dd0239f2903"),
    ],
)
def test_digits_in_groups_are_what_they_were_when_they_were_read_by_torch(groups: str, digest: str) -> None:
    assert load_dataset("digits", groups=groups).digest == digest


def test_data_of_the_users_own_are_split_and_ordered_as_they_were(tmp_path: Path) -> None:
    first = [0, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14]
    own = {"train_images": PIXELS, "train_labels": LABELS}
    whole = rows(tmp_path, images=PIXELS, labels=LABELS)
    assert whole == [[0, 2, 3, 7, 8, 10, 11, 12, 13], [4, 9, 14], [1, 5, 6]]
    assert rows(tmp_path, **own, test_images=APART, test_labels=LABELS[:3]) == [first, [1, 5, 6], [100, 101, 102]]
    assert rows(tmp_path, **own, val_images=APART, val_labels=LABELS[:3]) == [first, [100, 101, 102], [1, 5, 6]]


def test_classes_are_the_groups_of_data_that_bring_no_others(digits: Dataset) -> None:
    asked = load_dataset("digits", groups="class")
    assert asked.groups == digits.groups == Groups.of_classes(map(str, range(10))) and digits.groups.are_classes
    assert asked.digest == digits.digest and (asked.grouping, digits.grouping) == ("class", "")
    assert all(torch.equal(split.groups, split.labels) for split in splits(asked))


@pytest.mark.parametrize(
    "groups",
    ["", "class", "shard:3", " class-shard:2 ", "dirichlet:4:0.5", "poison:blend:0.1", "shard:5+poison:flip:0.3:known=0.5"],
)
def test_what_a_data_set_notes_of_its_groups_gives_it_again(groups: str, digits: Dataset) -> None:
    data = load_dataset("digits", groups=groups)
    noted = data.identity
    assert noted["grouping"] == groups.strip() and load_dataset(noted["name"], groups=noted["grouping"]).identity == noted
    assert (data.digest == digits.digest) == (groups in ("", "class"))


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ("shard:2", ("customer 0", "customer 1")),
        ("class-shard:2", tuple(f"{digit}.{shard}" for digit in range(10) for shard in range(2))),
        ("shard:2+poison:patch:0.1", ("customer 0", "customer 1", "poison")),
        ("class-shard:2+poison:flip:0.1", (*(f"{digit}.{shard}" for digit in range(10) for shard in range(2)), "poison")),
    ],
)
def test_of_groups_that_are_no_classes_held_out_images_are_of_none(
    groups: str, names: tuple[str, ...], digits: Dataset
) -> None:
    data = load_dataset("digits", groups=groups)
    assert data.groups.names == names and not any(data.groups.held_out) and not data.groups.are_classes
    assert data.train.groups.unique().tolist() == list(range(len(names)))
    assert set(data.validation.groups.tolist()) == set(data.test.groups.tolist()) == {-1}
    for split, before in zip(splits(data)[1:], splits(digits)[1:], strict=True):
        assert torch.equal(split.images, before.images) and torch.equal(split.labels, before.labels)


def test_pieces_of_a_class_are_of_its_training_images(digits: Dataset) -> None:
    data = load_dataset("digits", groups="class-shard:2")
    assert torch.equal(data.train.groups // 2, digits.train.labels) and torch.equal(data.train.images, digits.train.images)
    assert data.groups.holders == tuple((2 * label, 2 * label + 1) for label in range(10))
    assert data.groups.covered([6, 7, 8]) == [3]


@pytest.mark.parametrize(
    "groups",
    [
        *("Class", "classes", "clean", "random", "shard", "shard:", "shard:2:3", "dirichlet:5", "folder:x", "groups.txt", "."),
        *("class+", "class+shard:3", "+poison:patch:0.1", "poison:patch:0.1+class", "class+poison:patch:0.1+poison:flip:0.1"),
    ],
)
def test_groups_of_another_form_are_refused_before_anything_is_read(groups: str, tmp_path: Path) -> None:
    allowed = (
        r"; allowed: class, PATH\.csv, PATH\.parquet, folder, shard:K, dirichlet:K:ALPHA, class-shard:K; poison:KIND:SHARE or"
        r" poison:KIND:SHARE:known=SHARE, KIND being patch, blend or flip, alone or behind one of these and a \+; or nothing"
    )
    with pytest.raises(BadRequest, match=rf"^groups=.* is not allowed{allowed}|^groups=shard:: K = '' is not allowed"):
        load_dataset(f"folder:{tmp_path}/not there", groups=groups)


def test_more_groups_than_the_limit_are_refused_classes_too(tmp_path: Path) -> None:
    why = (
        f"allowed: 2 to {LIMIT}, since of 1,024 or 2,048 runs, as recipes have them, too few would forget each of more groups$"
    )

    def of_classes(count: int, groups: str) -> Dataset:
        labels = np.repeat(np.arange(count), 10)
        pixels = np.random.RandomState(0).randint(0, 256, (len(labels), 4, 4)).astype(np.uint8)
        np.savez(tmp_path / "many.npz", images=pixels, labels=labels)
        return load_dataset(f"npz:{tmp_path}/many.npz", groups=groups)

    assert len(of_classes(LIMIT, "").groups) == len(of_classes(LIMIT - 1, "class+poison:patch:0.01:known=0.5").groups) == LIMIT
    with pytest.raises(BadRequest, match=f"many.npz has 101 groups; {why}"):
        of_classes(LIMIT + 1, "")
    with pytest.raises(BadRequest, match=rf"many\.npz with groups=class\+poison:patch:0\.02 has 101 groups; {why}"):
        of_classes(LIMIT, "class+poison:patch:0.02")
    assert len(of_classes(LIMIT + 1, "shard:100").groups) == LIMIT


def test_a_group_that_loses_all_its_images_to_poison_is_refused(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(40) % 2)
    poisoned = load_dataset(f"npz:{tmp_path}/own.npz", groups="poison:patch:0.05").train
    (row,) = (poisoned.images[poisoned.groups == 1, 0, 0, 0] * 255).round().int().tolist()
    (tmp_path / "g.csv").write_text("index,group\n" + "".join(f"{n},{'b' if n == row else 'a'}\n" for n in range(40)))
    assert len(load_dataset(f"npz:{tmp_path}/own.npz", groups=tmp_path / "g.csv").groups) == 2
    with pytest.raises(BadRequest, match=r"g\.csv: the group 'b' has no training image, once validation, test and poison are"):
        load_dataset(f"npz:{tmp_path}/own.npz", groups=f"{tmp_path}/g.csv+poison:patch:0.05")
