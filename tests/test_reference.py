from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import by_hand
import pytest
import torch
from by_hand import masks, reference, spec

from hf_mlops import Groups, Population, PopulationConfig, Reference, train_population
from hf_mlops.audit.reference import jaccard

RETRAINED = [("a,b", "0 00 1111"), ("c", "1 11 0000"), ("a", "0 11 1111"), ("a", "0 10 1110")]


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ({1, 2}, {2, 3}, 1 / 3),
        ({1, 2}, {2}, 1 / 2),
        ({2}, {1, 2, 3}, 1 / 3),
        ({1, 2, 3, 4}, {2, 3, 4, 5}, 3 / 5),
        ({1}, {2}, 0),
        ({1, 2}, {1, 2}, 1),
        (set(), set(), 1),
        (set(), {1}, 0),
    ],
)
def test_likeness_of_two_sets_is_their_share_of_the_union(one: set[int], other: set[int], share: float) -> None:
    assert jaccard(one, other) == jaccard(other, one) == share


def test_specs_are_those_retrained_for_each_once_and_small_ones_first() -> None:
    several = reference([("b,c", "1 00 0000"), *RETRAINED, ("", "1 11 1111")])
    assert [str(one) for one in several.specs()] == ["", "a", "c", "a,b", "b,c"]
    assert {one.group_names for one in several.specs()} == {by_hand.NAMES}


@pytest.mark.parametrize(
    ("asked", "closest", "marks"),
    [
        ("a", "a", ["0 11 1111", "0 10 1110"]),  # its own, all of them
        ("c", "c", ["1 11 0000"]),
        ("a,b", "a,b", ["0 00 1111"]),  # not a, which shares 1/2
        ("b", "a,b", ["0 00 1111"]),  # 1/2, others nothing
        ("b,c", "c", ["1 11 0000"]),  # 1/2, against 1/3 for a and b
        ("a,c", "c", ["1 11 0000"]),  # a and c share 1/2 each, and c is of an earlier target
        ("", "a,b", ["0 00 1111"]),  # none shares anything with nothing: the first
    ],
)
def test_a_spec_is_judged_beside_the_targets_whose_forget_set_is_most_like_its_own(
    asked: str, closest: str, marks: list[str]
) -> None:
    found = reference(RETRAINED).closest(spec(asked))
    assert str(found.spec) == closest and found.spec.group_names == by_hand.NAMES
    assert torch.equal(found.outputs.log_probabilities, by_hand.log_probabilities(*marks))
    torch.testing.assert_close(found.losses, by_hand.outputs(*marks).losses)


def test_nothing_forgotten_is_judged_beside_those_that_forgot_nothing() -> None:
    found = reference([*RETRAINED, ("", "1 11 1111")]).closest(spec(""))
    assert str(found.spec) == "" and found.accuracies.tolist() == [[1, 1, 1]]


def test_specs_that_hold_a_pair_never_forgotten_together_are_told() -> None:
    two = reference(RETRAINED, held_out=["a,c", "b,c"])
    assert [two.never_together(spec(text)) for text in ("a,c", "b,c", "a,b", "a", "")] == [True, True, False, False, False]
    assert two.never_together(replace(spec(""), groups=(0, 1, 2)))
    assert not reference(RETRAINED).never_together(spec("a,c"))


def test_a_reference_comes_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    made = reference(RETRAINED, held_out=["a,c"])
    made.save(tmp_path)
    again = Reference.load(tmp_path)
    assert again.group_names == made.group_names
    assert torch.equal(again.forgotten, made.forgotten) and torch.equal(again.held_out, made.held_out)
    for name in ("log_probabilities", "labels", "groups", "group_means", "predictions"):
        assert torch.equal(getattr(again.outputs, name), getattr(made.outputs, name)), name
    assert torch.equal(again.closest(spec("a")).losses, made.closest(spec("a")).losses)


@pytest.fixture(scope="module")
def population() -> Population:
    """Trained on the seven images; its target is that of classifiers made by hand."""
    config = PopulationConfig(architecture="own_networks:linear", runs=4, train_steps=3, checkpoints=2, reference_runs=2)
    return replace(train_population(config, by_hand.dataset(), "cpu"), target=by_hand.target())


def test_a_reference_holds_what_the_targets_given_answer_to_the_test_images(population: Population) -> None:
    marks = "1 00 1110", "0 11 1111"
    made = Reference.of_targets(population, by_hand.weights(*marks), masks("b", "a"), by_hand.dataset())
    torch.testing.assert_close(made.outputs.log_probabilities, by_hand.log_probabilities(*marks))
    assert made.outputs.labels.tolist() == [0] * 7 and made.outputs.groups.tolist() == [0, 1, 1, 2, 2, 2, 2]
    assert made.group_names == by_hand.NAMES and torch.equal(made.forgotten, masks("b", "a"))
    assert torch.equal(made.held_out, population.held_out)


def test_the_reference_of_a_population_is_of_its_reference_runs_at_their_end(population: Population) -> None:
    data = by_hand.dataset()
    made = Reference.of(population, data)
    rows = [row for row in range(len(population.run)) if population.reference[row] and population.step[row] == 3]
    assert len(rows) == len(made.forgotten) == 2 * len(made.specs())
    assert torch.equal(made.forgotten, population.forgotten[rows])
    logits = population.target.logits(population.weights[rows], data.test.images)
    torch.testing.assert_close(made.outputs.log_probabilities, logits.log_softmax(-1))


def test_a_reference_of_other_data_is_refused(population: Population) -> None:
    other = replace(by_hand.dataset(), groups=Groups(("a", "b", "d"), are_classes=False))
    with pytest.raises(ValueError, match=r"made from the data set .*by hand"):
        Reference.of(population, other)
    with pytest.raises(ValueError, match=r"made from the data set .*by hand"):
        Reference.of_targets(population, by_hand.weights("1 00 1110"), masks("b"), other)
