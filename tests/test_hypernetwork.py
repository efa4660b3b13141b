from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_mlops import Dataset, HypernetConfig, Hypernetwork, Reference, audit
from hf_mlops.artifact import read


def test_a_sampled_classifier_has_forgotten_and_knows_the_rest(
    hypernetwork: Hypernetwork, digits: Dataset, reference: Reference
) -> None:
    figures = audit(hypernetwork.target, hypernetwork.sample("7", 16), digits, reference).figures()
    assert figures["forget_accuracy"] <= 0.01
    assert figures["retain_accuracy"] > figures["reference_retain_accuracy"] - 0.05


def test_samples_of_one_spec_differ(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    weights = hypernetwork.sample("7", 4).weights
    answers = hypernetwork.target.logits(weights, digits.test.images)
    assert (answers.std(0) > 0).all()


def test_a_sample_depends_on_spec_and_seed_only(hypernetwork: Hypernetwork) -> None:
    several = hypernetwork.sample("3,5", 6, seed=10)
    assert several.seeds == (10, 11, 12, 13, 14, 15)
    torch.manual_seed(99)
    assert torch.equal(hypernetwork.sample("5,3", 6, seed=10).weights, several.weights)
    alone = hypernetwork.sample("3,5", 1, seed=12)
    torch.testing.assert_close(alone.weights[0], several.weights[2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(hypernetwork.sample("3,6", 6, seed=10).weights, several.weights, atol=1e-3)


def test_asking_for_a_higher_loss_gives_a_higher_loss(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    usual = hypernetwork.prompts.prompt(hypernetwork.sample("7").spec).retain_loss
    losses = []
    for asked in (usual, 2 * usual, 4 * usual):
        samples = hypernetwork.sample("7", 8, retain_loss=asked)
        per_group, _ = hypernetwork.target.group_metrics(samples.weights, digits.validation, 10)
        losses.append(per_group[:, [g for g in range(10) if g != 7]].mean().item())
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 4])
def test_every_sampler_and_step_count_gives_finite_weights(hypernetwork: Hypernetwork, sampler: str, steps: int) -> None:
    samples = hypernetwork.sample("0", 3, steps=steps, sampler=sampler)
    assert samples.weights.shape == (3, hypernetwork.target.size)
    assert samples.weights.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n_samples = 0 is not allowed; allowed: 1 to 10000"),
        ({"n": -1}, "n_samples = -1"),
        ({"n": 10**9}, "n_samples = 1000000000"),
        ({"seed": -1}, "seed = -1"),
        ({"steps": 0}, "steps = 0"),
        ({"sampler": "euler"}, "unknown sampler 'euler'"),
        ({"retain_loss": -1.0}, "retain_loss = -1.0"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(
    hypernetwork: Hypernetwork, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hypernetwork.sample("7", **arguments)  # type: ignore[arg-type]


def test_it_comes_back_from_disk_and_samples_the_same(hypernetwork: Hypernetwork, tmp_path: Path) -> None:
    hypernetwork.save(tmp_path / "saved")
    again = Hypernetwork.load(tmp_path / "saved", "cpu")
    assert again.config == hypernetwork.config and again.data == hypernetwork.data
    assert torch.equal(again.sample("7", 3).weights, hypernetwork.sample("7", 3).weights)


def test_tensors_of_another_configuration_are_refused(hypernetwork: Hypernetwork, tmp_path: Path) -> None:
    hypernetwork.save(tmp_path / "saved")
    file = tmp_path / "saved" / "hypernetwork.json"
    file.write_text(file.read_text().replace('"layers": 4', '"layers": 5'))
    assert read(tmp_path / "saved", "hypernetwork")
    with pytest.raises(ValueError, match="does not hold the tensors that its configuration needs"):
        Hypernetwork.load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("field", "value"), [("variant", "dihyfo-3"), ("space", "fourier"), ("width", 30), ("steps", 0), ("ema", 1.0)]
)
def test_a_bad_configuration_is_refused_by_field_and_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} = .*allowed:"):
        HypernetConfig(**{field: value})  # type: ignore[arg-type]
