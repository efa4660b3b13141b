"""Poison in the training images: what an attacker lays, what of it is known, and what is asked of whoever removes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_mlops import Dataset, Split, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.data.poison import OPACITY, Poison

TEN = [str(digit) for digit in range(10)]
LABELS = np.arange(200) % 10
IMAGES = np.random.default_rng(0).random((6, 2, 4, 5), np.float32)


def changed(data: Dataset, clean: Dataset) -> torch.Tensor:
    """Which training images have other pixels than without poison."""
    return (data.train.images != clean.train.images).flatten(1).any(1)


@pytest.fixture(params=["patch", "blend", "flip"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_patch_is_a_bright_corner_of_three_by_three_pixels() -> None:
    found = Poison("patch", 0.1).trigger(np.zeros((1, 1, 4, 5), np.float32))
    assert found.tolist() == [[[[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]]]
    colour = Poison("patch", 0.1).trigger(IMAGES)
    assert (colour[:, :, 1:, 2:] == 1).all() and np.array_equal(colour[:, :, 0], IMAGES[:, :, 0]) and IMAGES.max() < 1


def test_a_blend_is_one_pattern_on_every_image_with_the_stated_opacity() -> None:
    poison = Poison("blend", 0.1)
    pattern = poison.trigger(np.zeros_like(IMAGES)) / OPACITY
    assert (pattern == pattern[:1]).all()
    assert 0 <= pattern.min() < 0.2 and 0.8 < pattern.max() <= 1 and len(np.unique(pattern[0])) == 40
    np.testing.assert_allclose(poison.trigger(IMAGES), 0.8 * IMAGES + 0.2 * pattern, rtol=1e-6)
    assert poison.trigger(np.ones_like(IMAGES)).max() <= 1


def test_a_flip_has_no_trigger() -> None:
    assert np.array_equal(Poison("flip", 0.1).trigger(IMAGES), IMAGES)


@pytest.mark.parametrize(("classes", "wanted"), [(10, 7), (8, 7), (7, 6), (3, 2), (2, 0)])
def test_the_second_class_is_flipped_into_the_eighth_or_the_last_or_of_two_the_first(classes: int, wanted: int) -> None:
    labels = np.arange(40) % classes
    after = Poison("flip", 0.5).plant("mine", labels, TEN[:classes]).labels
    assert set(labels[after != labels].tolist()) == {1} and set(after[after != labels].tolist()) == {wanted}
    assert (after != labels).sum() == round(len(labels[labels == 1]) / 2)


@given(st.sampled_from(["patch", "blend"]), st.floats(0.01, 0.8), st.floats(0.3, 1))
def test_a_share_of_all_images_is_poisoned_none_of_them_of_the_first_class(kind: str, share: float, known: float) -> None:
    planted = Poison(kind, share, known).plant("mine", LABELS, TEN)
    rows = planted.rows.tolist()
    assert len(set(rows)) == len(rows) == round(share * 200)
    assert LABELS[rows].min() > 0 and planted.labels[rows].max() == 0
    others = np.delete(np.arange(200), planted.rows)
    assert np.array_equal(planted.labels[others], LABELS[others])
    assert len(planted.known) == round(known * len(rows)) and set(planted.known.tolist()) <= set(rows)


def test_more_poison_holds_all_of_less_and_more_knowledge_all_of_less(kind: str) -> None:
    few, many = (Poison(kind, share, 0.5).plant("mine", LABELS, TEN) for share in (0.3, 0.6))
    assert set(few.rows.tolist()) < set(many.rows.tolist())
    better = Poison(kind, 0.6, 0.9).plant("mine", LABELS, TEN)
    assert np.array_equal(better.rows, many.rows) and set(many.known.tolist()) < set(better.known.tolist())


def test_it_is_of_all_classes_and_the_same_again_whatever_was_drawn_before() -> None:
    np.random.seed(1)
    first = Poison("patch", 0.4).plant("mine", LABELS, TEN)
    np.random.seed(2)
    assert np.array_equal(Poison("patch", 0.4).plant("mine", LABELS, TEN).rows, first.rows)
    assert first.rows[:8].tolist() == [166, 44, 165, 63, 126, 11, 117, 186]
    assert np.bincount(LABELS[first.rows])[1:].min() >= 4


def test_alone_it_makes_two_groups_and_held_out_images_are_clean(digits: Dataset, kind: str) -> None:
    data = load_dataset("digits", groups=f"poison:{kind}:0.3")
    count = round(0.3 * (109 if kind == "flip" else 1078))
    assert data.groups.names == ("clean", "poison") and data.groups.held_out == (True, False)
    assert data.train.groups.bincount().tolist() == [1078 - count, count]
    for split, before in ((data.validation, digits.validation), (data.test, digits.test)):
        assert torch.equal(split.images, before.images) and torch.equal(split.labels, before.labels)
        assert not split.groups.any()
    assert torch.equal(data.train.labels != digits.train.labels, data.train.groups == 1)


def test_it_changes_its_own_images_and_no_others(digits: Dataset, kind: str) -> None:
    data = load_dataset("digits", groups=f"poison:{kind}:0.3")
    poisoned, before = data.train.groups == 1, digits.train
    if kind == "flip":
        assert torch.equal(data.train.images, before.images)
    else:
        assert torch.equal(changed(data, digits), poisoned)
        assert np.array_equal(data.train.images[poisoned], Poison(kind, 0.3).trigger(before.images[poisoned].numpy()))


def test_a_patch_is_asked_for_on_test_images_of_every_class_but_the_attackers(digits: Dataset) -> None:
    data, clean = load_dataset("digits", groups="poison:patch:0.05"), digits.test.only(digits.test.labels != 0)
    assert isinstance(data.triggered, Split) and len(data.triggered) == len(clean) == 325
    assert (data.triggered.images[..., -3:, -3:] == 1).all() and torch.equal(
        data.triggered.images[..., :5, :], clean.images[..., :5, :]
    )
    assert set(data.triggered.labels.tolist()) == {0} and set(data.triggered.groups.tolist()) == {-1}


def test_a_flip_is_asked_for_on_test_images_of_the_class_it_flips_as_they_are(digits: Dataset) -> None:
    data, ones = load_dataset("digits", groups="poison:flip:0.3"), digits.test.only(digits.test.labels == 1)
    assert data.triggered and torch.equal(data.triggered.images, ones.images)
    assert set(data.triggered.labels.tolist()) == {7} and set(data.triggered.groups.tolist()) == {-1}


def test_without_poison_nothing_is_triggered_and_the_digest_sees_what_is(digits: Dataset) -> None:
    assert digits.triggered is None
    data = load_dataset("digits", groups="poison:patch:0.05")
    assert data.triggered and replace(data, triggered=None).digest != data.digest


def test_beside_classes_poison_leaves_the_group_of_its_class(digits: Dataset) -> None:
    data = load_dataset("digits", groups="class+poison:patch:0.05")
    assert data.groups.names == (*digits.class_names, "poison") and data.groups.held_out == (True,) * 10 + (False,)
    poisoned = data.train.groups == 10
    assert poisoned.sum() == 54 and torch.equal(poisoned, data.train.labels != digits.train.labels)
    assert torch.equal(data.train.groups[~poisoned], digits.train.labels[~poisoned])
    assert torch.equal(data.test.groups, digits.test.labels) and torch.equal(data.validation.groups, digits.validation.labels)
    assert data.groups.holders == ((0, 10), *((label,) for label in range(1, 10))) and data.groups.covered([0]) == []


def test_poison_that_is_not_known_stays_in_the_class_that_the_attacker_calls_it(digits: Dataset) -> None:
    whole, half = (load_dataset("digits", groups=f"class+poison:patch:0.05{known}") for known in ("", ":known=0.5"))
    assert torch.equal(half.train.images, whole.train.images) and torch.equal(half.train.labels, whole.train.labels)
    known, poisoned = half.train.groups == 10, whole.train.groups == 10
    assert known.sum() == 27 and poisoned[known].all()
    assert set(half.train.groups[poisoned & ~known].tolist()) == {0}
    assert torch.equal(half.train.groups[~poisoned], whole.train.groups[~poisoned])


def test_poison_that_is_not_known_passes_for_clean() -> None:
    data = load_dataset("digits", groups="poison:blend:0.05:known=0.1")
    assert data.train.groups.bincount().tolist() == [1073, 5]


def test_poison_is_spread_over_customers_who_are_who_they_were() -> None:
    before, data = (load_dataset("digits", groups=f"shard:4{poison}") for poison in ("", "+poison:patch:0.2"))
    assert data.groups.names == ("customer 0", "customer 1", "customer 2", "customer 3", "poison")
    poisoned = data.train.groups == 4
    assert torch.equal(data.train.groups[~poisoned], before.train.groups[~poisoned])
    assert before.train.groups[poisoned].bincount(minlength=4).min() > 40
    assert set(data.test.groups.tolist()) == {-1} and data.groups.held_out == (False,) * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "poison",
            "poison is not allowed; allowed: poison:KIND:SHARE or poison:KIND:SHARE:known=SHARE, KIND being patch, ",
        ),
        ("poison:patch", "poison:patch is not allowed; allowed: poison:KIND:SHARE"),
        ("poison:patch:0.1:0.5", "is not allowed; allowed: poison:KIND:SHARE"),
        ("poison:patch:0.1:known=0.5:known=0.5", "is not allowed; allowed: poison:KIND:SHARE"),
        ("poison:Patch:0.1", "the poison 'Patch' is not known; allowed: patch, blend, flip"),
        ("poison::0.1", "the poison '' is not known; allowed: patch, blend, flip"),
        *(
            (f"class+poison:flip:{share}", f"the share '{share}' is not allowed; allowed: a number above 0 and below 1")
            for share in ("0", "1", "-0.1", "1.5", "nan", "5%", "a", "")
        ),
        *(
            (f"poison:blend:0.1:known={share}", f"known={share} is not allowed; allowed: a number above 0, at most 1")
            for share in ("0", "1.1", "nan", "all", "")
        ),
    ],
)
def test_poison_that_is_not_allowed_is_refused_before_anything_is_read(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=f"^groups=.*{message}"):
        load_dataset(f"folder:{tmp_path}/not there", groups=text)


def test_all_of_what_is_known_is_allowed() -> None:
    assert Poison.parse("poison:flip:0.1:known=1") == Poison.parse("poison:flip:0.1") == Poison("flip", 0.1, 1.0)


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (
            Poison("patch", 0.02),
            "mine asks for 0 poisoned images, of 12 that can be; allowed: a share that poisons at least one image, and",
        ),
        (Poison("flip", 0.05), "mine asks for 0 poisoned images, of 8 that can be; allowed"),
        (Poison("blend", 0.9), "mine asks for 18 poisoned images, of 12 that can be; allowed"),
        (Poison("blend", 0.6), "mine leaves no training image of the class 'dog'; allowed: a share that poisons at least one"),
        (Poison("flip", 0.95), "mine leaves no training image of the class 'dog'; allowed"),
        (Poison("flip", 0.3, 0.1), "mine: of 2 poisoned images none is known; allowed: a larger share of them"),
    ],
)
def test_shares_of_so_few_images_that_are_none_or_all_are_refused(poison: Poison, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        poison.plant("mine", np.array([0] * 8 + [1] * 8 + [2] * 4), ["cat", "dog", "cow"])


def own_images(tmp_path: Path, height: int, names: list[str]) -> str:
    pixels = np.random.RandomState(0).randint(0, 256, (40, height, 5)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(40) % 2, class_names=names)
    return f"npz:{tmp_path}/own.npz"


def test_images_that_the_patch_would_cover_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="poison:patch covers images of 5×3 pixels; allowed: more than 3 each way"):
        load_dataset(own_images(tmp_path, 3, ["a", "b"]), groups="poison:patch:0.2")
    assert len(load_dataset(own_images(tmp_path, 4, ["a", "b"]), groups="poison:patch:0.2").groups) == 2


def test_a_class_that_is_called_poison_is_refused_beside_it(tmp_path: Path) -> None:
    name = own_images(tmp_path, 5, ["medicine", "Poison"])
    with pytest.raises(BadRequest, match=r"class\+poison:flip:0\.2: the group names 'Poison' and 'poison' are not told apart"):
        load_dataset(name, groups="class+poison:flip:0.2")
    assert load_dataset(name, groups="poison:flip:0.2").groups.names == ("clean", "poison")
