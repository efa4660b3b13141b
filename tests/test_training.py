from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_mlops import Dataset, HypernetConfig, Population, PopulationConfig, train_population
from hf_mlops.base.groups import Groups
from hf_mlops.hypernet import training as training_module
from hf_mlops.hypernet.training import Trainer, further_groups, train_hypernetwork

SHORT = HypernetConfig(train_steps=12, batch_size=16, width=32, layers=2, components=32)


@pytest.fixture(params=[("dihyfo-1", "raw"), ("dihyfo-2", "latent")], ids=str)
def config(request: pytest.FixtureRequest) -> HypernetConfig:
    variant, space = request.param
    return replace(SHORT, variant=variant, space=space)


def test_both_losses_fall(config: HypernetConfig, population: Population, digits: Dataset) -> None:
    trainer = Trainer(replace(config, train_steps=150, batch_size=64, behaviour=0.1), population, digits, "cpu")

    def on_the_same_batches() -> torch.Tensor:
        generator, trainer.generator = trainer.generator, torch.Generator().manual_seed(1)
        with torch.no_grad():
            losses = torch.stack([torch.stack(trainer.losses()) for _ in range(20)]).mean(0)
        trainer.generator = generator
        return losses

    before = on_the_same_batches()
    for _ in range(150):
        trainer.train_step()
    weight, behaviour = (on_the_same_batches() / before).tolist()
    assert weight < 0.99
    assert behaviour < 0.95


def test_the_reference_is_never_trained_on(population: Population, digits: Dataset) -> None:
    trainer = Trainer(SHORT, population, digits, "cpu")
    assert torch.equal(trainer.weights, population.weights[~population.reference])


def test_training_is_the_same_for_a_seed(config: HypernetConfig, population: Population, digits: Dataset) -> None:
    first, again = (train_hypernetwork(config, population, digits, "cpu").sample("7", 2).weights for _ in range(2))
    other = train_hypernetwork(replace(config, seed=1), population, digits, "cpu").sample("7", 2).weights
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_interrupted_training_goes_on_where_it_was(
    config: HypernetConfig, population: Population, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_hypernetwork(config, population, digits, "cpu").sample("7", 2).weights
    step, saves = Trainer.train_step, []

    def interrupted_step(self: Trainer) -> dict[str, torch.Tensor]:
        if self.step == 7:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        train_hypernetwork(config, population, digits, "cpu", checkpoint=tmp_path / "c", on_checkpoint=saves.append)
    assert saves == [7]
    steps = []
    monkeypatch.setattr(Trainer, "train_step", lambda self: steps.append(self.step) or step(self))
    resumed = train_hypernetwork(config, population, digits, "cpu", checkpoint=tmp_path / "c")
    assert steps == list(range(7, 12))
    assert torch.equal(resumed.sample("7", 2).weights, whole)


def test_checkpoints_are_saved_as_time_passes(
    population: Population, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "CHECKPOINT_SECONDS", 0.0)
    saves = []
    train_hypernetwork(SHORT, population, digits, "cpu", checkpoint=tmp_path / "c", on_checkpoint=saves.append)
    assert saves == list(range(1, SHORT.train_steps + 1))
    assert (tmp_path / "c" / "training.safetensors").exists()


def test_figures_are_logged(population: Population, digits: Dataset) -> None:
    logged = {}
    train_hypernetwork(replace(SHORT, train_steps=60), population, digits, "cpu", log=logged.__setitem__)
    assert list(logged) == [50, 60]
    wanted = {"weight_loss", "behaviour_loss", "gradient_norm", "learning_rate", "samples_per_second"}
    for figures in logged.values():
        assert set(figures) == wanted
        assert all(value >= 0 for value in figures.values()) and figures["samples_per_second"] > 0


def test_a_checkpoint_of_another_configuration_is_refused(population: Population, digits: Dataset, tmp_path: Path) -> None:
    Trainer(SHORT, population, digits, "cpu").save(tmp_path / "c")
    with pytest.raises(ValueError, match=r"has config = .*allowed here"):
        Trainer(replace(SHORT, layers=3), population, digits, "cpu").restore(tmp_path / "c")


def test_a_population_of_other_shapes_is_refused(population: Population, digits: Dataset, tmp_path: Path) -> None:
    Trainer(SHORT, population, digits, "cpu").save(tmp_path / "c")
    other = train_population(PopulationConfig(architecture="mlp-32", runs=64, train_steps=10, reference_runs=1), digits, "cpu")
    with pytest.raises(ValueError, match=r"has target = .*mlp-16.*allowed here: .*mlp-32"):
        Trainer(SHORT, other, digits, "cpu").restore(tmp_path / "c")


def test_a_population_of_other_data_is_refused(population: Population, digits: Dataset) -> None:
    with pytest.raises(ValueError, match="made from the data set"):
        Trainer(SHORT, replace(population, made_from={"name": "digits", "digest": "0"}), digits, "cpu")


def test_cuda_is_refused_where_there_is_none(population: Population, digits: Dataset) -> None:
    if torch.cuda.is_available():
        assert Trainer(SHORT, population, digits, "cuda").device.type == "cuda"
    else:
        with pytest.raises(ValueError, match="device 'cuda'"):
            Trainer(SHORT, population, digits, "cuda")
    with pytest.raises(ValueError, match="unknown device 'tpu'; allowed: auto, cpu, cuda"):
        Trainer(SHORT, population, digits, "tpu")


def test_matrix_products_are_less_precise_in_training_only(
    population: Population, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(torch.get_float32_matmul_precision())
        raise InterruptedError

    monkeypatch.setattr(Trainer, "losses", spy)
    with pytest.raises(InterruptedError):
        Trainer(SHORT, population, digits, "cpu").train_step()
    assert seen == ["medium"] and torch.get_float32_matmul_precision() == "highest"


def test_further_groups_are_retained_ones_and_one_is_left(population: Population) -> None:
    forgotten = population.forgotten[~population.reference]
    further = further_groups(forgotten, torch.Generator().manual_seed(0))
    assert not (further & forgotten).any()
    assert further.any(1).all()
    assert not (further | forgotten).all(1).any()
    counts = further.sum(1).bincount() / len(further)
    assert 0.65 < counts[1] < 0.85 and 0.1 < counts[2] < 0.3
    all_but_two = torch.tensor([[True, False, True, False]]).repeat(20, 1)
    assert (further_groups(all_but_two, torch.Generator().manual_seed(0)).sum(1) == 1).all()
    one_of_two = torch.tensor([[True, False]])
    assert not further_groups(one_of_two, torch.Generator().manual_seed(0)).any()


def test_a_target_with_a_class_left_out_is_what_the_behavioural_loss_wants(population: Population, digits: Dataset) -> None:
    trainer = Trainer(replace(SHORT, token_width=128, components=128), population, digits, "cpu")
    weights, images = trainer.weights[:4], digits.train.images[:32]
    left_out = torch.zeros(4, 10, dtype=torch.bool)
    left_out[:, 7] = True
    without = weights.clone()
    without[:, -3] -= 1000  # the last ten weights are the biases of the classes
    wanted = trainer._behaviour_loss(trainer.hypernetwork.space.encode(without).float(), weights, left_out, images)
    as_it_is = trainer._behaviour_loss(trainer.hypernetwork.space.encode(weights).float(), weights, left_out, images)
    assert wanted.abs() < 1e-3 < as_it_is


def test_only_groups_that_are_classes_are_left_out(population: Population, digits: Dataset) -> None:
    """A row that is composed of nothing further has weights to come near to."""
    config = replace(SHORT, composed=1.0)
    others = replace(digits, groups=Groups(digits.groups.names, are_classes=False))
    with torch.no_grad():
        composed, behaviour = Trainer(config, population, digits, "cpu").losses()
        plain, _ = Trainer(config, replace(population, made_from=others.identity), others, "cpu").losses()
    assert composed == 0 < behaviour
    assert plain > 0
