"""Audits of targets and samples that were really trained; worked out by hand they are in the tests of each module."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch

from hf_mlops import Audit, Dataset, ForgetSpec, Gates, Hypernetwork, Population, Reference, audit_samples, best_fit
from hf_mlops.audit.measure import measure
from hf_mlops.audit.tables import HELD_OUT_PAIR, KINDS, SEEN_PAIR, kind_of, reference_summary

NAMES = [str(digit) for digit in range(10)]


def test_the_reference_is_retrained_without_what_it_says(reference: Reference, population: Population) -> None:
    assert len(reference.forgotten) == (population.reference & population.final).sum()
    assert reference.outputs.accuracies[reference.forgotten].max() == 0
    assert {len(spec.groups) for spec in reference.specs()} == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("asked", ["7", "", "0,1"])
def test_a_spec_of_the_reference_is_judged_beside_both_targets_retrained_for_it(asked: str, reference: Reference) -> None:
    found = reference.beside(ForgetSpec.parse(asked, NAMES))
    assert str(found.spec) == asked
    assert len(found.losses) == 2


def test_no_spec_is_judged_beside_targets_that_need_not_know_what_it_keeps(reference: Reference) -> None:
    for groups in itertools.chain.from_iterable(itertools.combinations(range(10), size) for size in range(10)):
        part = reference.beside(ForgetSpec.of(groups, NAMES)).spec.groups
        assert set(part) <= set(groups) and bool(part) == bool(groups)


def test_every_kind_of_spec_is_in_the_reference(reference: Reference) -> None:
    kinds = pd.Series([kind_of(spec, reference) for spec in reference.specs()]).value_counts()
    assert set(kinds.index) == set(KINDS)
    assert (kinds[HELD_OUT_PAIR], kinds[SEEN_PAIR]) == (9, 36)
    targets = reference_summary(reference).set_index("kind")["targets"]
    assert targets[list(KINDS[:4])].tolist() == [2, 20, 72, 18]
    assert targets.sum() == len(reference.forgotten)


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
        return Audit(sampled, reference.beside(spec))

    assert evidence_of("7").refused(Gates()) == {}
    (failure,) = evidence_of("").refused(Gates()).values()
    assert re.match(r"accuracy on D_f is (1|0\.9).*allowed: at most 0.01", failure)
    (failure,) = evidence_of("7,8").refused(Gates()).values()
    assert re.match(r"accuracy on D_r is 0\.8.* 0.02 under the retrain reference", failure)


def test_the_candidate_closest_to_its_prompt_is_kept(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    samples = hypernetwork.sample("7", 4)
    weights = samples.weights.clone()
    weights[[0, 1, 3]] *= 0.5  # blunter classifiers, of higher loss
    assert best_fit(hypernetwork.target, replace(samples, weights=weights), digits) == 2
