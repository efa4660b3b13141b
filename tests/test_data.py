from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from hf_mlops import Dataset, Groups, Split, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import grouped
from hf_mlops.data.splitting import check_classes, stratified


def test_digits_are_all_there_once_in_a_fixed_stratified_split(digits: Dataset) -> None:
    splits = (digits.train, digits.validation, digits.test)
    assert sum(map(len, splits)) == 1797
    for split in splits:
        shares = torch.bincount(split.labels, minlength=10) / len(split)
        assert shares.min() > 0.09 and shares.max() < 0.11
        assert split.images.shape[1:] == digits.input_shape == (1, 8, 8)
        assert split.images.min() >= 0 and split.images.max() == 1
        assert torch.equal(split.groups, split.labels)
    images = torch.cat([split.images for split in splits]).flatten(1)
    assert len(images.unique(dim=0)) == 1797


def test_the_digest_is_the_same_again_and_changes_with_one_label(digits: Dataset) -> None:
    assert load_dataset("digits").digest == digits.digest
    labels = digits.test.labels.clone()
    labels[0] = (labels[0] + 1) % 10
    assert replace(digits, test=replace(digits.test, labels=labels)).digest != digits.digest


def test_the_digest_covers_the_names_of_the_classes_but_not_that_of_the_data_set(digits: Dataset) -> None:
    assert replace(digits, name="elsewhere").digest == digits.digest
    assert replace(digits, class_names=tuple("abcdefghij")).digest != digits.digest


def test_a_data_set_does_not_stand_in_for_another(digits: Dataset) -> None:
    digits.require({"name": "elsewhere", "digest": digits.digest})
    with pytest.raises(ValueError, match=r"made from the data set .*'digest': '0'.*; the one given is .*'name': 'digits'"):
        digits.require({"name": "digits", "digest": "0"})


def test_a_channel_that_never_varies_can_be_divided_by(digits: Dataset) -> None:
    flat = replace(digits, train=replace(digits.train.only(torch.arange(5)), images=torch.full((5, 3, 8, 8), 0.1)))
    assert min(flat.normalisation[1]) > 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_of_the_users_own_without_one_of_the_classes_is_refused(split: str) -> None:
    own = {f"{split}_labels": np.array([0, 0])}
    with pytest.raises(BadRequest, match=f"mine: the class 'dog' has 0 {split} images; allowed: at least 1, for every split"):
        check_classes("mine", ["cat", "dog"], np.array([0, 0, 1, 1]), **own)


@given(st.lists(st.integers(2, 40), min_size=2, max_size=8), st.floats(0, 1), st.integers(0, 9))
def test_a_stratified_split_is_that_of_scikit_learn(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = len(sizes) + round(share * (len(labels) - 2 * len(sizes)))  # as many images as classes in either part
    expected = train_test_split(np.arange(len(labels)), train_size=count, stratify=labels, random_state=0)
    for part, wanted in zip(stratified(labels, count), expected, strict=True):
        assert part.tolist() == wanted.tolist()


def split_of(labels: list[int], groups: list[int]) -> Split:
    """An image of one pixel each, its place."""
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
    return Split(images, torch.tensor(labels), torch.tensor(groups))


def test_a_group_is_measured_on_held_out_images_where_it_has_some_and_a_quarter_of_a_class() -> None:
    labels, groups = [0] * 8 + [1] * 8, [0] * 6 + [1] * 2 + [2] * 1 + [3] * 5 + [4] * 2
    train = split_of(labels, groups)
    held_out = split_of([0, 0, 1, 1, 1], [0, 1, 2, 3, -1])
    own = grouped("abcde", 2, train, held_out, held_out)
    assert own.names == tuple("abcde") and own.holders == ((0, 1), (2, 3, 4))
    assert own.held_out == (True, True, False, True, False)
    less = split_of([0, 1, 1], [0, 2, 3])
    assert grouped("abcde", 2, train, less, held_out).held_out == (True, False, False, True, False)
    assert grouped("abcde", 2, train, held_out, less).held_out == (True, False, False, True, False)


def test_groups_without_held_out_images_are_measured_on_training_images_of_their_own() -> None:
    train = split_of([0] * 200 + [1] * 200, [0] * 150 + [1] * 50 + [1] * 200)
    held_out = split_of([0, 0, 1], [0, 1, -1])
    groups = Groups(("a", "b"), ((0, 1), (1,)), (True, False))
    data = Dataset("mine", train, held_out, held_out, ("x", "y"), groups)
    audited, conditioning = data.audited, data.conditioning
    assert audited.groups.tolist() == [0, -1, -1] + [1] * 250
    assert audited.apart is not None and audited.apart.tolist() == [False] * 3 + [True] * 250
    assert audited.images[3:].flatten().tolist() == list(range(150, 400))
    assert conditioning.groups.tolist() == [0] + [1] * 250 and conditioning.apart is None
    whole = replace(data, groups=Groups(("a", "b"), ((0, 1), (1,)), (True, True)))
    assert whole.audited is held_out and whole.conditioning.groups.tolist() == [0, 1]


@pytest.mark.parametrize(("groups", "each"), [(2, 256), (64, 128), (100, 81), (400, 32)])
def test_so_many_training_images_stand_for_a_group_spread_over_all_of_its_own(groups: int, each: int) -> None:
    train = split_of([0] * 300 * groups, [group for group in range(groups) for _ in range(300)])
    own = Groups(tuple(map(str, range(groups))), (tuple(range(groups)),), (False,) * groups)
    data = Dataset("mine", train, split_of([0], [-1]), split_of([0], [-1]), ("x",), own)
    assert data.conditioning.groups.bincount().tolist() == [each] * groups
    first = data.conditioning.images[:each].flatten()
    assert first[0] == 0 and first[-1] >= 290 and len(first.unique()) == each and first.max() < 300
