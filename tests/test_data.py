from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_mlops import Dataset, load_dataset


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


def test_an_unknown_data_set_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="unknown data set 'letters'; allowed: digits"):
        load_dataset("letters")


def test_a_data_set_does_not_stand_in_for_another(digits: Dataset) -> None:
    with pytest.raises(ValueError, match="made from the data set"):
        digits.require({"name": "digits", "digest": "0"})
