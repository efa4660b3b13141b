"""Training images dealt out to customers, or each class in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.partitions import LEAST, ClassShards, Dirichlet, Partition, Shards, parse_partition, stream

LABELS = st.lists(st.integers(0, 2), min_size=60, max_size=90).map(lambda some: np.array([0, 1, 2] * 9 + some))
NAMES = ["cat", "dog", "cow"]


def deal(partition: Partition, labels: np.ndarray) -> np.ndarray:
    return partition.deal("mine", labels, NAMES)[1]


@given(LABELS, st.integers(2, 9))
def test_shards_are_of_equal_size_and_leave_no_image_out(labels: np.ndarray, count: int) -> None:
    groups = deal(Shards(count), labels)
    sizes = np.bincount(groups, minlength=count)
    assert groups.shape == labels.shape and groups.dtype == np.int64
    assert len(sizes) == count and sizes.max() - sizes.min() <= 1


@given(LABELS, st.integers(2, 9))
def test_shards_of_a_class_hold_nothing_else_and_are_of_equal_size(labels: np.ndarray, count: int) -> None:
    groups = deal(ClassShards(count), labels)
    assert np.array_equal(groups // count, labels)
    for sizes in np.bincount(groups, minlength=3 * count).reshape(3, count):
        assert sizes.max() - sizes.min() <= 1


@given(LABELS, st.integers(2, 4), st.sampled_from([0.3, 1.0, 100.0]))
def test_every_customer_with_a_label_mix_of_its_own_has_images(labels: np.ndarray, count: int, alpha: float) -> None:
    sizes = np.bincount(deal(Dirichlet(count, alpha), labels), minlength=count)
    assert len(sizes) == count and sizes.min() >= LEAST and sizes.sum() == len(labels)


def test_shards_are_drawn_at_random_and_not_cut_off_in_order() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    for group in range(2):
        own = labels[deal(Shards(2), labels) == group]
        assert len(own) == 50 and 15 < own.sum() < 35
    pieces = deal(ClassShards(2), np.array([0] * 50 + [1, 2] * 2))[:50]
    assert 5 < (pieces[:25] == 0).sum() < 20


def test_a_small_alpha_gives_most_of_a_class_to_one_customer_and_a_large_one_the_same_to_each() -> None:
    labels = np.arange(3000) % 3

    def largest_shares(alpha: float) -> list[float]:
        groups = deal(Dirichlet(5, alpha), labels)
        return [(np.bincount(groups[labels == label], minlength=5) / 1000).max() for label in range(3)]

    assert min(largest_shares(0.05)) > 0.6
    assert max(largest_shares(1000.0)) < 0.25


def test_which_images_of_a_class_a_customer_has_is_drawn_at_random() -> None:
    groups = deal(Dirichlet(2, 1000.0), np.zeros(200, np.int64))
    assert 60 < (groups[:100] == 0).sum() * 2 < 140


def test_the_same_again_on_every_machine_whatever_was_drawn_before() -> None:
    labels = np.arange(12) % 3
    expected = np.empty(12, int)
    expected[stream("shard").permutation(12)] = np.arange(12) % 2
    np.random.seed(1)
    assert deal(Shards(2), labels).tolist() == expected.tolist() == [1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    many = np.arange(60) % 3
    np.random.seed(2)
    assert deal(ClassShards(2), labels).tolist() == [0, 3, 4, 1, 2, 4, 0, 2, 5, 1, 3, 5]
    assert np.bincount(deal(Dirichlet(3, 0.3), many)).tolist() == [33, 11, 16]
    assert np.array_equal(deal(Dirichlet(3, 0.3), many), deal(Dirichlet(3, 0.3), many))


def test_groups_are_called_after_what_they_are() -> None:
    labels = np.arange(30) % 3
    assert Shards(3).deal("mine", labels, NAMES)[0] == ("customer 0", "customer 1", "customer 2")
    assert Dirichlet(2, 9.0).deal("mine", labels, NAMES)[0] == ("customer 0", "customer 1")
    assert ClassShards(2).deal("mine", labels, NAMES)[0] == ("cat.0", "cat.1", "dog.0", "dog.1", "cow.0", "cow.1")


@pytest.mark.parametrize(
    ("text", "partition"),
    [
        ("shard:20", Shards(20)),
        ("shard:100", Shards(100)),
        ("class-shard:2", ClassShards(2)),
        ("dirichlet:10:0.3", Dirichlet(10, 0.3)),
        ("dirichlet:10:1", Dirichlet(10, 1.0)),
        *(
            (text, None)
            for text in ("", "class", "shard", "shard:2:3", "class-shard", "dirichlet:10", "dirichlet:2:1:1", "x:3")
        ),
    ],
)
def test_a_partition_is_read_from_its_name_and_numbers(text: str, partition: Partition | None) -> None:
    assert parse_partition(text) == partition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"shard:{k}", f"K = '{k}' is not allowed; allowed: a whole number from 2 to 100")
            for k in ("0", "1", "", "-3", "2.0")
        ),
        ("class-shard:1", "K = '1' is not allowed; allowed: a whole number from 2 to 100"),
        ("class-shard:٣", "K = '٣' is not allowed"),
        ("dirichlet:x:0.3", "K = 'x' is not allowed"),
        (
            "shard:101",
            "101 are too many groups; allowed: 2 to 100, since of 1,024 or 2,048 runs, as recipes have them, too few",
        ),
        ("dirichlet:10000:1", "10000 are too many groups; allowed: 2 to 100"),
        *(
            (f"dirichlet:5:{alpha}", f"ALPHA = '{alpha}' is not allowed; allowed: a number from 0.01 to 1000")
            for alpha in ("0", "-1", "nan", "inf", "a", "", "0.009", "1001")
        ),
    ],
)
def test_numbers_that_are_not_allowed_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^groups={text}: {message}"):
        parse_partition(text)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (Shards(16), "mine: 15 training images are too few; allowed: K up to their number"),
        (ClassShards(5), "mine: the class 'cow' has 4 training images; allowed: K up to the number of each class"),
        (ClassShards(34), "mine: 3 classes make 102 groups; allowed: 2 to 100, since"),
        (
            Dirichlet(2, 1000.0),
            "mine: of 15 training images some customer has fewer than 10, in each of 1000 draws; allowed: fewer",
        ),
    ],
)
def test_too_few_images_for_so_many_groups_are_refused(partition: Partition, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^{message}"):
        deal(partition, np.array([0] * 6 + [1] * 5 + [2] * 4))


def test_as_many_groups_as_there_are_images_are_allowed() -> None:
    labels = np.array([0] * 6 + [1] * 5 + [2] * 4)
    assert sorted(deal(Shards(15), labels).tolist()) == list(range(15))
    assert np.bincount(deal(ClassShards(4), labels)).min() == 1
    assert np.bincount(ClassShards(33).deal("mine", np.arange(99) % 3, NAMES)[1]).tolist() == [1] * 99
