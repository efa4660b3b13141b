from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_mlops import Audit, Dataset, ForgetSpec, Gates, Hypernetwork, Population, Reference, audit_samples, best_fit
from hf_mlops.audit.measure import Measured, measure

NAMES = [str(digit) for digit in range(10)]


def test_the_reference_is_retrained_without_what_it_says(reference: Reference, population: Population) -> None:
    assert len(reference.forgotten) == (population.reference & population.final).sum()
    assert reference.accuracies[reference.forgotten].max() == 0
    assert {len(spec.groups) for spec in reference.specs()} == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(("asked", "closest"), [("7", "7"), ("", ""), ("0,1", "0,1")])
def test_the_closest_reference_is_the_specs_own_where_there_is_one(asked: str, closest: str, reference: Reference) -> None:
    found = reference.closest(ForgetSpec.parse(asked, NAMES))
    assert str(found.spec) == closest
    assert len(found.losses) == 2


def test_a_spec_without_a_reference_is_judged_beside_the_most_similar(reference: Reference) -> None:
    asked = ForgetSpec.parse("0,1,2,3,4,5,6,7", NAMES)
    found = reference.closest(asked).spec
    assert len(found.groups) == 5 and set(found.groups) <= set(asked.groups)


def test_figures_are_those_of_the_test_images(hypernetwork: Hypernetwork, digits: Dataset, reference: Reference) -> None:
    samples = hypernetwork.sample("7", 3)
    evidence = audit_samples(hypernetwork.target, samples, digits, reference)
    answers = hypernetwork.target.logits(samples.weights, digits.test.images).argmax(-1)
    right = (answers == digits.test.labels).float()
    kept = digits.test.labels != 7
    assert evidence.figures(1)["retain_accuracy"] == pytest.approx(right[1, kept].mean().item(), abs=1e-6)
    assert evidence.figures(1)["forget_accuracy"] == pytest.approx(right[1, ~kept].mean().item(), abs=1e-6)
    assert evidence.figures()["retain_accuracy"] == pytest.approx(right[:, kept].mean().item(), abs=1e-6)


def test_the_reference_itself_passes_the_gates_and_the_original_does_not(
    population: Population, digits: Dataset, reference: Reference
) -> None:
    spec = ForgetSpec.parse("7", NAMES)

    def evidence_of(forgotten: str) -> Audit:
        mask = torch.tensor(ForgetSpec.parse(forgotten, NAMES).mask)
        rows = population.reference & population.final & (population.forgotten == mask).all(1)
        sampled = measure(population.target, population.weights[rows], spec, digits.test)
        return Audit(sampled, reference.closest(spec))

    assert evidence_of("7").failures(Gates()) == []
    (failure,) = evidence_of("").failures(Gates())
    assert re.match(r"accuracy on D_f is (1|0\.9).*allowed: at most 0.01", failure)
    (failure,) = evidence_of("7,8").failures(Gates())
    assert re.match(r"accuracy on D_r is 0\.8.* 0.02 under the retrain reference", failure)


def test_gates_are_shares() -> None:
    with pytest.raises(ValueError, match="max_retain_gap = 2 is not allowed; allowed: 0 to 1"):
        Gates(max_retain_gap=2)


def test_the_candidate_closest_to_its_prompt_is_kept(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    samples = hypernetwork.sample("7", 4)
    weights = samples.weights.clone()
    weights[[0, 1, 3]] *= 0.5  # blunter classifiers, of higher loss
    assert best_fit(hypernetwork.target, replace(samples, weights=weights), digits) == 2


def test_a_reference_comes_back_from_disk(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path)
    again = Reference.load(tmp_path)
    assert again.group_names == reference.group_names
    assert torch.equal(again.accuracies, reference.accuracies) and torch.equal(again.held_out, reference.held_out)


def test_a_reference_of_other_data_is_refused(population: Population, digits: Dataset) -> None:
    with pytest.raises(ValueError, match="made from the data set"):
        Reference.of(population, replace(digits, class_names=tuple("abcdefghij")))


def test_churn_and_disagreement_count_the_images_that_are_kept() -> None:
    spec = ForgetSpec.parse("1", ["0", "1"])
    groups = torch.tensor([0, 0, 0, 0, 1, 1])
    predictions = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]], dtype=torch.int16)
    measured = Measured(spec, torch.zeros(3, 2), torch.zeros(3, 2), predictions, groups)
    assert measured.churn(predictions[0]).tolist() == [0, 0.25, 0.5]
    assert measured.disagreement() == pytest.approx((0.25 + 0.5 + 0.25) / 3)
    nothing = ForgetSpec.parse("", ["0", "1"])
    assert measured.churn(predictions[0], nothing).tolist() == pytest.approx([0, 0.5, 1 / 3])
