"""Customers are forgotten as retraining forgets them: from a small population, on digits, dealt out to eight of them."""

from __future__ import annotations

import pytest
import torch

from hf_mlops import (
    Dataset,
    ForgetSpec,
    Gates,
    HypernetConfig,
    Hypernetwork,
    Population,
    PopulationConfig,
    Reference,
    audit_samples,
    load_dataset,
    retrain,
    train_hypernetwork,
    train_population,
)
from hf_mlops.audit.exposure import exposed
from hf_mlops.audit.group_membership import GroupJudge, group_evidence
from hf_mlops.audit.masking import mask_classes
from hf_mlops.audit.select import best_fit
from hf_mlops.base.errors import BadRequest
from hf_mlops.population.outputs import Outputs


@pytest.fixture(scope="module")
def customers() -> Dataset:
    return load_dataset("digits", groups="shard:8")


@pytest.fixture(scope="module")
def population(customers: Dataset) -> Population:
    return train_population(PopulationConfig(runs=256, train_steps=400, reference_runs=4), customers, "cpu")


@pytest.fixture(scope="module")
def hypernetwork(population: Population, customers: Dataset) -> Hypernetwork:
    return train_hypernetwork(HypernetConfig(train_steps=250, batch_size=64), population, customers, "cpu")


@pytest.fixture(scope="module")
def reference(population: Population, customers: Dataset) -> Reference:
    return Reference.of(population, customers)


def test_losses_of_a_customer_are_those_on_his_own_training_images(population: Population, customers: Dataset) -> None:
    row = int((~population.reference & population.final & population.forgotten[:, 3]).nonzero()[0])
    own = customers.train.only(customers.train.groups == 3)
    logits = population.target.logits(population.weights[row, None], own.images)[0]
    expected = torch.nn.functional.cross_entropy(logits, own.labels)
    torch.testing.assert_close(population.losses[row, 3], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_customer_is_forgotten_as_far_as_by_retraining_and_no_further(
    hypernetwork: Hypernetwork, reference: Reference, customers: Dataset
) -> None:
    closed, gaps = [], []
    for name in customers.groups.names:
        samples = hypernetwork.sample(name, 4)
        audit = audit_samples(hypernetwork.target, samples, customers, reference)
        figures = audit.figures()
        closed.append(figures["closed"])
        gaps.append(figures["reference_retain_accuracy"] - figures["retain_accuracy"])
        assert figures["reference_forget_accuracy"] > 0.9  # what no gate may ask to be 0
        assert not audit.refused(Gates(), best_fit(hypernetwork.target, samples, customers)), name
    assert sum(closed) / 8 == pytest.approx(1, abs=0.2) and min(closed) > 0.5 and max(closed) < 1.6
    assert abs(sum(gaps) / 8) < 0.01


@pytest.mark.slow
def test_the_gates_refuse_the_original_and_who_is_asked_for_nothing(
    hypernetwork: Hypernetwork, reference: Reference, customers: Dataset
) -> None:
    spec = ForgetSpec.parse("customer 3", customers.groups.names)
    nothing = hypernetwork.sample("", 4)
    kept = audit_samples(
        hypernetwork.target, type(nothing)(spec, nothing.seeds, nothing.weights, nothing.prompt), customers, reference
    )
    assert all("max_forget_distance" in kept.refused(Gates(), index) for index in range(4))
    assert kept.figures()["closed"] < 0.3


def test_a_judge_of_customers_tells_who_had_one_and_takes_no_sample_for_such(
    hypernetwork: Hypernetwork, population: Population, customers: Dataset
) -> None:
    spec, count = ForgetSpec.parse("customer 3", customers.groups.names), 10
    masks = torch.tensor([[False] * 8, spec.mask])
    fresh = retrain(population.config, customers, masks.repeat(count, 1), 0, "cpu", 2).unflatten(0, (count, 2))

    def seen(weights: torch.Tensor) -> torch.Tensor:
        return group_evidence(Outputs.of_targets(population.target, weights, customers.audited, 8), spec)[:, [3]]  # on D_f

    kept, left, samples = seen(fresh[:, 0]), seen(fresh[:, 1]), seen(hypernetwork.sample(spec, 8).weights)
    judge = GroupJudge(kept[:5], left[:5])
    assert judge.beliefs(kept[5:]).min() > 0.5 > judge.beliefs(left[5:]).max()
    assert judge.beliefs(samples).max() < 0.5 and abs(judge.way(samples, kept[5:], left[5:])) < 0.3


def test_a_customers_images_are_attacked_beside_all_test_images(population: Population, customers: Dataset) -> None:
    spec = ForgetSpec.parse("customer 3", customers.groups.names)
    (one,) = exposed(population.target, population.weights[:1], population.made_from, customers, spec)
    own = customers.train.groups == 3
    wanted = [customers.train.labels[~own], customers.test.labels, customers.train.labels[own], customers.test.labels]
    assert all(torch.equal(part.labels, labels) for part, labels in zip(one.parts, wanted, strict=True))


def test_no_class_is_masked_for_a_customer(population: Population, customers: Dataset) -> None:
    spec = ForgetSpec.parse("customer 3", customers.groups.names)
    with pytest.raises(BadRequest, match="'customer 3': there is nothing to be masked where groups are no classes"):
        mask_classes(population.target, population.weights[:1], spec, customers, 6.0)
