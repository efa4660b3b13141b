from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from hf_mlops import (
    Dataset,
    ForgetSpec,
    HypernetConfig,
    Hypernetwork,
    Population,
    PopulationConfig,
    Reference,
    audit_samples,
    train_hypernetwork,
    train_population,
)
from hf_mlops.base.artifact import read
from hf_mlops.base.losses import set_means
from hf_mlops.base.noise import SampleNoise
from hf_mlops.hypernet.denoiser import LEAST_VARIANCE, LEFT_AFTER_CORRECTION
from hf_mlops.hypernet.training import Trainer
from hf_mlops.population.outputs import Outputs


def test_a_sampled_classifier_has_forgotten_and_knows_the_rest(
    hypernetwork: Hypernetwork, digits: Dataset, reference: Reference
) -> None:
    figures = audit_samples(hypernetwork.target, hypernetwork.sample("7", 16), digits, reference).figures()
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
        per_group = Outputs.of_targets(hypernetwork.target, samples.weights, digits.validation, 10).losses
        losses.append(per_group[:, [g for g in range(10) if g != 7]].mean().item())
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 4])
def test_every_sampler_and_step_count_gives_finite_weights(hypernetwork: Hypernetwork, sampler: str, steps: int) -> None:
    samples = hypernetwork.sample("0", 3, steps=steps, sampler=sampler)
    assert samples.weights.shape == (3, hypernetwork.target.size)
    assert samples.weights.isfinite().all()


def test_samples_are_of_all_the_data_orders_that_targets_were_trained_in(
    hypernetwork: Hypernetwork, population: Population, digits: Dataset
) -> None:
    assert hypernetwork.orders == 3 == len(population.order[~population.reference].unique())
    sampled = hypernetwork.sample("7", 60, steps=1).weights
    rows = population.final & ~population.reference
    trained, order = population.weights[rows], population.order[rows]
    drawn = torch.tensor([SampleNoise(seed).choose(3) for seed in range(60)])
    own, others = [], []
    for one, other in product(range(3), repeat=2):
        of_samples = sampled[drawn == one].mean(0) - sampled.mean(0)
        of_targets = trained[order == other].mean(0) - trained.mean(0)
        (own if one == other else others).append(cosine_similarity(of_samples, of_targets, 0).item())
    assert min(own) > 0.2 and max(others) < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n_samples = 0 is not allowed; allowed: 1 to 10000"),
        ({"n": -1}, "n_samples = -1"),
        ({"n": 10**9}, "n_samples = 1000000000"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**62 + 1}, "seed = 4611686018427387905 is not allowed; allowed: 0 to 4611686018427387904"),
        ({"seed": 2**62, "n": 2}, "seed = 4611686018427387904 is not allowed; allowed: 0 to 4611686018427387903"),
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
    assert again.config == hypernetwork.config and again.made_from == hypernetwork.made_from
    assert torch.equal(again.sample("7", 3).weights, hypernetwork.sample("7", 3).weights)


def test_it_samples_where_the_users_network_cannot_be_imported(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PopulationConfig(
        architecture="own_networks:frozen", scope="head.*", runs=8, train_steps=3, checkpoints=2, reference_runs=1, chunk=100
    )
    made = train_hypernetwork(
        HypernetConfig(train_steps=2, batch_size=4), train_population(config, digits, "cpu"), digits, "cpu"
    )
    made.save(tmp_path / "saved")
    expected = made.sample("7").weights
    monkeypatch.setitem(sys.modules, "own_networks", None)
    again = Hypernetwork.load(tmp_path / "saved", "cpu")
    assert torch.equal(again.sample("7").weights, expected)
    state = again.target.state_dict(expected[0])
    assert state.keys() == made.target.module.network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in made.target.shared.items())
    with pytest.raises(ValueError, match=r"'own_networks:frozen' does not import"):
        again.target.logits(expected, digits.test.images)


def test_tensors_of_another_configuration_are_refused(hypernetwork: Hypernetwork, tmp_path: Path) -> None:
    hypernetwork.save(tmp_path / "saved")
    file = tmp_path / "saved" / "hypernetwork.json"
    file.write_text(file.read_text().replace('"layers": 4', '"layers": 5'))
    assert read(tmp_path / "saved", "hypernetwork")
    with pytest.raises(ValueError, match="does not hold the tensors that its configuration needs"):
        Hypernetwork.load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("field", "value"), [("variant", "dihyfo-3"), ("space", "fourier"), ("width", 30), ("train_steps", 0), ("ema", 1.0)]
)
def test_a_bad_configuration_is_refused_by_field_and_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} = .*allowed:"):
        HypernetConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:start_time")
def test_a_sample_stays_the_nearer_to_its_start_weights_the_less_noise_they_get(
    hypernetwork: Hypernetwork, population: Population
) -> None:
    start = population.weights[population.reference & population.final & ~population.forgotten.any(1)][0]
    distances = [
        (hypernetwork.sample("7", 4, start=start, start_time=time).weights - start).square().mean().item()
        for time in (0.1, 0.4, 0.8)
    ]
    assert distances[0] < distances[1] < distances[2]
    freely = hypernetwork.sample("7", 4).weights
    assert distances[1] < (freely - start).square().mean().item()


@pytest.mark.parametrize(
    ("start", "time", "message"),
    [
        (torch.zeros(7), 0.5, r"start weights of shape \(7,\) are not allowed; allowed: those of mlp-16, \(1210,\)"),
        (torch.full((1210,), float("nan")), 0.5, "all finite"),
        (torch.zeros(1210), 0.0, "start_time = 0.0 is not allowed; allowed: above 0, up to 1"),
        (torch.zeros(1210), 1.5, "start_time = 1.5"),
    ],
)
def test_start_weights_of_another_network_and_impossible_times_are_refused(
    hypernetwork: Hypernetwork, start: torch.Tensor, time: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hypernetwork.sample("7", start=start, start_time=time)


def test_before_training_a_sample_is_what_a_regression_on_the_signal_gives(population: Population, digits: Dataset) -> None:
    trainer = Trainer(HypernetConfig(), population, digits, "cpu")
    guess, clean, signal = trainer.model.guess, trainer.drawer.tokens, trainer.drawer.signal
    weight = trainer.drawer.likeness()
    left = (weight[:, None, None] * (clean - guess(signal)).square()).sum(0) / weight.sum()
    assert 0.02 < float(left.mean()) < 0.6  # all coordinates have variance 1, or none
    torch.testing.assert_close(guess.variance, (LEFT_AFTER_CORRECTION * left).clamp_min(LEAST_VARIANCE))
    with torch.no_grad():
        first = trainer.model(torch.randn_like(clean[:5]), torch.ones(5), signal[:5])
    torch.testing.assert_close(first, guess(signal[:5]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", ["7", "3,5"])
def test_default_prompts_are_what_retrained_targets_have(text: str, hypernetwork: Hypernetwork, population: Population) -> None:
    spec, book = ForgetSpec.parse(text, population.groups.names), hypernetwork.prompts
    rows = population.reference & population.final & (population.forgotten == torch.tensor(spec.mask)).all(1)
    retain, forget = set_means(population.losses[rows], population.forgotten[rows], book.share)
    prompt = book.prompt(spec)
    assert prompt.retain_loss == pytest.approx(retain.mean().item(), rel=0.2)
    assert prompt.forget_loss == pytest.approx(forget.mean().item(), rel=0.2)


@pytest.mark.parametrize("text", ["7", "3,5"])
def test_the_forget_loss_that_goes_with_a_retain_loss_is_that_of_checkpoints(
    text: str, hypernetwork: Hypernetwork, population: Population
) -> None:
    spec, book = ForgetSpec.parse(text, population.groups.names), hypernetwork.prompts
    rows = population.reference & (population.forgotten == torch.tensor(spec.mask)).all(1)
    retain, forget = set_means(population.losses[rows], population.forgotten[rows], book.share)
    for asked, found in zip(retain.tolist(), forget.tolist(), strict=True):
        assert book.prompt(spec, retain_loss=asked).forget_loss == pytest.approx(found, rel=0.2)
