from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_mlops import Dataset, HypernetConfig, Population, PopulationConfig, train_population
from hf_mlops.hypernet import training as training_module
from hf_mlops.hypernet.batch import Batch
from hf_mlops.hypernet.training import Trainer, behaviour_loss, depth_loss, train_hypernetwork, weight_loss

SHORT = HypernetConfig(train_steps=12, batch_size=16, width=32, layers=2, components=32)


@pytest.fixture(params=[("dihyfo-1", "raw"), ("dihyfo-2", "latent")], ids=str)
def config(request: pytest.FixtureRequest) -> HypernetConfig:
    variant, space = request.param
    return replace(SHORT, variant=variant, space=space)


def test_both_losses_fall(config: HypernetConfig, population: Population, digits: Dataset) -> None:
    trainer = Trainer(replace(config, train_steps=300, batch_size=64, behaviour=0.1), population, digits, "cpu")

    def on_the_same_batches() -> Tensor:
        step, losses = trainer.step, []
        for trainer.step in range(1000, 1020):
            with torch.no_grad():
                losses.append(torch.stack(trainer.losses(trainer.drawer.draw(trainer.step))))
        trainer.step = step
        return torch.stack(losses).mean(0)

    before = on_the_same_batches()
    for _ in range(300):
        trainer.train_step()
    weight, behaviour = (on_the_same_batches() / before).tolist()
    assert weight < 0.95
    assert behaviour < 0.97


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

    def interrupted_step(self: Trainer) -> dict[str, Tensor]:
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

    def spy(trainer: Trainer, batch: Batch) -> tuple[Tensor, Tensor]:
        seen.append(torch.get_float32_matmul_precision())
        raise InterruptedError

    monkeypatch.setattr(Trainer, "losses", spy)
    with pytest.raises(InterruptedError):
        Trainer(SHORT, population, digits, "cpu").train_step()
    assert seen == ["medium"] and torch.get_float32_matmul_precision() == "highest"


def test_the_weight_loss_is_a_mean_over_all_rows_to_which_those_with_a_class_left_out_add_nothing() -> None:
    predicted, tokens = torch.tensor([[[1.0, 2.0]], [[5.0, 5.0]]]), torch.tensor([[[2.0, 4.0]], [[0.0, 0.0]]])
    left_out = torch.tensor([[False, False], [False, True]])
    assert weight_loss(predicted, tokens, left_out).item() == (1 + 4) / 4
    assert weight_loss(predicted, tokens, torch.zeros(2, 2, dtype=torch.bool)).item() == (1 + 4 + 25 + 25) / 4


NONE, FIRST = torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)  # nothing is left out; an image of group 0


def log_odds(*probabilities: float) -> Tensor:
    """Logits of one target for one image; 7 is added, which no loss may see."""
    return torch.tensor([[probabilities]]).log() + 7


def test_the_behavioural_loss_is_the_divergence_of_the_predictions_from_the_true_ones() -> None:
    """1/4 ln(1/4 : 1/2) + 3/4 ln(3/4 : 1/2)"""
    given, true = log_odds(1 / 2, 1 / 2), log_odds(1 / 4, 3 / 4)
    expected = 0.25 * log(1 / 2) + 0.75 * log(3 / 2)
    assert behaviour_loss(given, true, NONE, FIRST, 0.0).item() == pytest.approx(expected, rel=1e-5)
    both = (torch.cat([given, true]), torch.cat([true, true]), NONE.expand(2, -1), FIRST)
    assert behaviour_loss(*both, 0.0).item() == pytest.approx(expected / 2, rel=1e-5)  # a mean over targets and images


def test_the_behavioural_loss_has_a_share_of_the_squared_error_of_log_probabilities() -> None:
    """(ln(1/2 : 1/4)² + ln(1/2 : 3/4)²) / 2"""
    given, true = log_odds(1 / 2, 1 / 2), log_odds(1 / 4, 3 / 4)
    squared = (log(2) ** 2 + log(3 / 2) ** 2) / 2
    added = behaviour_loss(given, true, NONE, FIRST, 0.1) - behaviour_loss(given, true, NONE, FIRST, 0.0)
    assert added.item() == pytest.approx(0.1 * squared, rel=1e-5)


def test_the_behavioural_loss_wants_the_true_predictions_without_the_classes_left_out() -> None:
    """With the third class left out 1/8, 3/8, 1/2 are 1/4, 3/4 and 0: the divergence is 1/4 ln(1/4 : 1/4) + 3/4 ln(3/4 : 1/4).

    The squared error is ln(1/4 : 3/4)² / 3: that of a class left out, whose true logarithm is none, counts as 0.
    """
    given, true = log_odds(1 / 4, 1 / 4, 1 / 2), log_odds(1 / 8, 3 / 8, 1 / 2)
    third = torch.tensor([[False, False, True]])
    assert behaviour_loss(given, true, third, FIRST, 0.0).item() == pytest.approx(0.75 * log(3), rel=1e-5)
    assert behaviour_loss(given, true, third, FIRST, 1.0).item() == pytest.approx(0.75 * log(3) + log(3) ** 2 / 3, rel=1e-5)
    without = log_odds(1 / 4, 3 / 4, 1e-30)
    assert behaviour_loss(without, true, third, FIRST, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_what_a_target_answers_to_images_of_a_class_left_out_is_nothing_to_learn() -> None:
    given, true = log_odds(1 / 4, 1 / 4, 1 / 2), log_odds(1 / 8, 3 / 8, 1 / 2)
    third, two_images = torch.tensor([[False, False, True]]), (given.expand(1, 2, 3), true.expand(1, 2, 3))
    assert behaviour_loss(given, true, third, FIRST + 2, 1.0) == 0
    of_both = behaviour_loss(*two_images, third, torch.tensor([2, 1]), 1.0)
    assert of_both.item() == pytest.approx(behaviour_loss(given, true, third, FIRST, 1.0).item() / 2)


def test_how_deep_a_class_left_out_is_to_lie_is_taught_by_a_target_that_forgot_it() -> None:
    """A teacher gives the third class 1/9 beside 6/9 for the first, that is kept, and 2/9 for the second, that is not: 1/6."""
    given, teacher = log_odds(1 / 4, 1 / 4, 1 / 2), log_odds(6 / 9, 2 / 9, 1 / 9)
    third, kept = torch.tensor([[False, False, True]]), torch.tensor([[True, False, False]])
    error = (log(1 / 2) - log(1 / 6)) ** 2 / 3  # a mean over classes
    assert depth_loss(given, teacher, third, kept).item() == pytest.approx(error, rel=1e-5)
    assert depth_loss(given, teacher, third & False, kept) == 0
    uncomposed = given.expand(4, 1, 3)  # only the first of four rows is composed
    assert depth_loss(uncomposed, teacher, third, kept).item() == pytest.approx(error / 4, rel=1e-5)


def test_the_losses_of_a_batch_are_judged_on_its_targets_images_and_classes_left_out(
    population: Population, digits: Dataset
) -> None:
    trainer = Trainer(replace(SHORT, log_error=0.5), population, digits, "cpu")
    batch = trainer.drawer.draw(0)
    with torch.no_grad():
        weight, behaviour = trainer.losses(batch)
        predicted = trainer.model(batch.noisy, batch.time, batch.signal)
    decoded = trainer.hypernetwork.space.decode(predicted)
    answered = [population.target.logits(weights, batch.images) for weights in (decoded, batch.weights, batch.teachers)]
    given, true, teachers = answered
    composed = len(batch.teachers)
    depth = depth_loss(given, teachers, batch.taught[:composed], batch.kept[:composed])
    assert weight == weight_loss(predicted, batch.tokens, batch.left_out)
    assert depth > 0 and behaviour == behaviour_loss(given, true, batch.left_out, batch.labels, 0.5) + 0.5 * depth


def test_without_the_behavioural_loss_no_target_is_run(
    population: Population, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(type(population.target), "logits")
    trainer = Trainer(replace(SHORT, behaviour=0.0), population, digits, "cpu")
    weight, behaviour = trainer.losses(trainer.drawer.draw(0))
    assert weight > 0 and behaviour == 0
