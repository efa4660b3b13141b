from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import by_hand
import pytest
import torch
from by_hand import masks, reference, spec

from hf_mlops import ForgetSpec, Groups, Population, PopulationConfig, Reference, retrain, train_population
from hf_mlops.audit.retraining import retrained
from hf_mlops.audit.tables import reference_summary
from hf_mlops.base.errors import BadRequest

RETRAINED = [("a,b", "0 00 1111"), ("c", "1 11 0000"), ("a", "0 11 1111"), ("a", "0 10 1110")]


def test_specs_are_those_retrained_for_each_once_and_small_ones_first() -> None:
    several = reference([("b,c", "1 00 0000"), *RETRAINED, ("", "1 11 1111")])
    assert [str(one) for one in several.specs()] == ["", "a", "c", "a,b", "b,c"]
    assert {one.group_names for one in several.specs()} == {by_hand.NAMES}


def test_specs_that_leave_no_image_in_d_r_cannot_be_judged() -> None:
    """Of images of a and b alone, c's being apart, nothing is left without a and b."""
    several = reference([*RETRAINED, ("", "1 11 1111"), ("b", "1 00 1111")])
    apart = torch.tensor([False] * 3 + [True] * 4)
    judged = replace(several, outputs=replace(several.outputs, apart=apart))
    assert [str(one) for one in judged.judged()] == ["", "a", "b", "c"] and len(judged.specs()) == 5
    assert several.judged() == several.specs()
    assert reference_summary(judged)["targets"].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("asked", "beside", "marks"),
    [
        ("a", "a", ["0 11 1111", "0 10 1110"]),  # its own, all of them, and not a,b, which forgot more
        ("c", "c", ["1 11 0000"]),
        ("a,b", "a,b", ["0 00 1111"]),
        ("b,c", "c", ["1 11 0000"]),
        ("a,c", "c", ["1 11 0000"]),  # as large a part as a, and of an earlier target
    ],
)
def test_a_spec_is_judged_beside_targets_that_forgot_it_or_the_largest_part_of_it(
    asked: str, beside: str, marks: list[str]
) -> None:
    found = reference(RETRAINED).beside(spec(asked))
    assert str(found.spec) == beside and found.spec.group_names == by_hand.NAMES
    assert torch.equal(found.outputs.log_probabilities, by_hand.log_probabilities(*marks))
    torch.testing.assert_close(found.losses, by_hand.outputs(*marks).losses)


def test_the_largest_part_of_a_larger_set_is_taken() -> None:
    judges = replace(
        reference([("a", "0 11 1111"), ("a,b", "0 00 1111")]),
        groups=Groups((*by_hand.NAMES, "d"), ((0, 1, 2, 3),) * 2, (True,) * 4),
    )
    judges = replace(judges, forgotten=torch.cat([judges.forgotten, torch.zeros(2, 1, dtype=torch.bool)], 1))
    assert str(judges.beside(ForgetSpec.parse("a,b,d", judges.groups.names)).spec) == "a,b"


@pytest.mark.parametrize(
    ("asked", "said"), [("b", "without b or a part of it, but without nothing; a; c; a,b"), ("", "without nothing or a")]
)
def test_a_spec_that_nothing_may_be_judged_beside_is_refused(asked: str, said: str) -> None:
    """Those that forgot nothing know what a spec forgets; those that forgot more need not know what it keeps."""
    with pytest.raises(BadRequest, match=said):
        reference([*RETRAINED, ("", "1 11 1111")] if asked else RETRAINED).beside(spec(asked))


def test_nothing_forgotten_is_judged_beside_those_that_forgot_nothing() -> None:
    found = reference([*RETRAINED, ("", "1 11 1111")]).beside(spec(""))
    assert str(found.spec) == "" and found.accuracies.tolist() == [[1, 1, 1]]


def test_specs_that_hold_a_pair_never_forgotten_together_are_told() -> None:
    two = reference(RETRAINED, held_out=["a,c", "b,c"])
    assert [two.never_together(spec(text)) for text in ("a,c", "b,c", "a,b", "a", "")] == [True, True, False, False, False]
    assert two.never_together(replace(spec(""), groups=(0, 1, 2)))
    assert not reference(RETRAINED).never_together(spec("a,c"))


def test_a_reference_comes_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    made = reference(RETRAINED, held_out=["a,c"])
    made.save(tmp_path)
    again = Reference.load(tmp_path).each(torch.as_tensor)
    assert again.groups == made.groups and again.config == made.config
    assert torch.equal(again.forgotten, made.forgotten) and torch.equal(again.held_out, made.held_out)
    for name in ("log_probabilities", "labels", "groups", "group_means", "predictions"):
        assert torch.equal(getattr(again.outputs, name), getattr(made.outputs, name)), name
    assert torch.equal(again.beside(spec("a")).losses, made.beside(spec("a")).losses)


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
    assert made.groups == by_hand.GROUPS and torch.equal(made.forgotten, masks("b", "a"))
    assert torch.equal(made.held_out, population.held_out)


def test_the_reference_of_a_population_is_of_its_reference_runs_at_their_end(population: Population) -> None:
    data = by_hand.dataset()
    made = Reference.of(population, data)
    rows = [row for row in range(len(population.run)) if population.reference[row] and population.step[row] == 3]
    assert len(rows) == len(made.forgotten) == 2 * len(made.specs())
    assert torch.equal(made.forgotten, population.forgotten[rows])
    logits = population.target.logits(population.weights[rows], data.test.images)
    torch.testing.assert_close(made.outputs.log_probabilities, logits.log_softmax(-1))


def test_targets_retrained_for_one_spec_are_as_those_of_the_population_and_each_has_its_own_order(
    population: Population,
) -> None:
    data = by_hand.dataset()
    here = Reference.of(population, data)
    fresh = retrained(here, population.target, data, spec("b"), 3, device="cpu")
    assert [str(one) for one in fresh.specs()] == ["b"] and len(fresh.forgotten) == 3
    weights = retrain(population.config, data, masks("b", "b", "b"), 0, "cpu", together=1)
    expected = population.target.logits(weights, data.test.images).log_softmax(-1)
    torch.testing.assert_close(fresh.outputs.log_probabilities, expected)
    assert len({tuple(one.flatten().tolist()) for one in fresh.outputs.log_probabilities}) == 3
    others = retrained(here, population.target, data, spec("b"), 3, seed=1, device="cpu")
    assert not torch.equal(others.outputs.log_probabilities, fresh.outputs.log_probabilities)


def test_a_reference_of_other_data_is_refused(population: Population) -> None:
    other = replace(by_hand.dataset(), groups=replace(by_hand.GROUPS, names=("a", "b", "d")))
    with pytest.raises(ValueError, match=r"made from the data set .*by hand"):
        Reference.of(population, other)
    with pytest.raises(ValueError, match=r"made from the data set .*by hand"):
        Reference.of_targets(population, by_hand.weights("1 00 1110"), masks("b"), other)
