from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_mlops import Dataset, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.data.splitting import check_classes


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
    flat = replace(digits, train=replace(digits.train, images=torch.full((5, 3, 8, 8), 0.1)))
    assert min(flat.normalisation[1]) > 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_of_the_users_own_without_one_of_the_classes_is_refused(split: str) -> None:
    own = {f"{split}_labels": torch.tensor([0, 0])}
    with pytest.raises(BadRequest, match=f"mine: the class 'dog' has 0 {split} images; allowed: at least 1, for every split"):
        check_classes("mine", ["cat", "dog"], torch.tensor([0, 0, 1, 1]), **own)
