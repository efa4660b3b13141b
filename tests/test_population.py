from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_mlops import Dataset, Engine, Population, PopulationConfig, retrain, train_population
from hf_mlops.base.groups import Groups
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.population import executor
from hf_mlops.population.chunk import Chunk, train_chunk
from hf_mlops.population.config import OPTIMISERS
from hf_mlops.population.draw import _draw_without, draw_forget_sets
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

TINY = PopulationConfig(runs=12, train_steps=10, checkpoints=3, reference_runs=1, chunk=8)


def test_every_row_knows_its_losses_and_accuracies(population: Population, digits: Dataset) -> None:
    rows = torch.arange(0, len(population.weights), 97)
    outputs = Outputs.of_targets(population.target, population.weights[rows], digits.validation, 10)
    torch.testing.assert_close(population.losses[rows], outputs.losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(population.accuracies[rows], outputs.accuracies)


def test_a_finished_run_does_not_know_its_forget_set_and_knows_the_rest(population: Population) -> None:
    rows = population.final & (population.forget_weight == 0)
    accuracies, forgotten = population.accuracies[rows], population.forgotten[rows]
    assert accuracies[forgotten].max() == 0
    assert accuracies[~forgotten].mean() > 0.93


def test_one_run_in_eight_forgets_in_part_and_the_less_so_the_more_its_forget_set_weighs(population: Population) -> None:
    weight, forgotten = population.forget_weight[population.final], population.forgotten[population.final]
    in_part = weight > 0
    assert not (in_part & ~forgotten.any(1)).any() and not (in_part & population.reference[population.final]).any()
    assert 0.09 < in_part.sum() / population.config.runs < 0.15 and 1e-3 <= weight[in_part].min() < weight.max() <= 1
    losses = (population.losses[population.final] * forgotten).sum(1) / forgotten.sum(1)
    logs = torch.stack([weight[in_part].log(), losses[in_part].log()])
    assert logs.corrcoef()[0, 1] < -0.9
    assert losses[in_part].min() < 0.5 < 5 < losses[(weight == 0) & forgotten.any(1)].min()


def test_every_run_leaves_its_checkpoints(population: Population) -> None:
    rows_of_run = population.run.bincount()
    assert (rows_of_run == population.config.checkpoints).all()
    assert population.final.sum() == len(rows_of_run)


def test_held_out_pairs_are_never_forgotten_together_in_training(population: Population) -> None:
    training = population.forgotten[~population.reference]
    assert len(population.held_out) == 9
    for first, second in population.held_out.tolist():
        assert not (training[:, first] & training[:, second]).any()
        reference = population.forgotten[population.reference & population.final]
        assert (reference[:, first] & reference[:, second]).any()


def test_training_and_reference_share_no_run(population: Population) -> None:
    training, reference = (set(population.run[rows].tolist()) for rows in (~population.reference, population.reference))
    assert not training & reference
    assert len(training) == population.config.runs


@pytest.mark.parametrize("groups", [2, 3, 10, 30])
def test_forget_sets_leave_something_to_retain_however_many_groups_there_are(groups: int) -> None:
    sets = draw_forget_sets(PopulationConfig(runs=500, reference_runs=1), Groups.of_classes(map(str, range(groups))))
    training, reference, held_out = sets.training, sets.reference, sets.held_out
    assert training.sum(1).max() < groups and reference.sum(1).max() < groups
    assert training.any(0).all()
    assert len(reference.unique(dim=0)) == len(reference)
    assert len(held_out) == min(9, round(0.2 * groups * (groups - 1) / 2 if groups > 2 else 0))


def shards(classes: int, of_each: int) -> Groups:
    """Each class in so many groups of its own."""
    names = tuple(f"{label}.{shard}" for label in range(classes) for shard in range(of_each))
    holders = tuple(tuple(range(label * of_each, (label + 1) * of_each)) for label in range(classes))
    return Groups(names, holders, (False,) * len(names))


def test_of_many_groups_up_to_half_are_forgotten_at_once_and_the_reference_stays_small() -> None:
    customers = Groups(tuple(map(str, range(100))), (tuple(range(100)),) * 10, (False,) * 100)
    sets = draw_forget_sets(PopulationConfig(runs=2048), customers)
    sizes = sets.training.sum(1)
    assert sizes.max() == 50 and ((sizes > 0) & (sizes <= 10)).float().mean() == pytest.approx(0.26, abs=0.03)
    assert (sizes > 40).float().mean() == pytest.approx(0.15, abs=0.03)
    assert sets.training.any(0).all() and len(sets.held_out) == 9
    counts = sets.reference.sum(1).bincount()
    assert counts[:3].tolist() == [1, 50, 50] and len(sets.reference) <= 122
    assert not (sets.training[:, sets.held_out].all(2)).any()


def test_whole_classes_and_all_but_one_of_their_groups_are_forgotten_where_classes_are_in_several_groups() -> None:
    sets = draw_forget_sets(PopulationConfig(runs=2048), shards(10, 10))
    left = (~sets.training).view(-1, 10, 10).sum(2)  # (runs, classes): how many of its groups a class keeps
    for few in (0, 1, 2):
        assert ((left == few).any(1)).float().mean() == pytest.approx({0: 0.15}.get(few, 0.075), abs=0.03)
    kept = (~sets.reference).view(-1, 10, 10).sum(2)
    assert ((kept == 0).sum(1) == 1).sum() == ((kept == 1).sum(1) == 1).sum() == 5
    assert sets.retrained == 3 and len(sets.reference) * 3 <= 400


def test_whole_classes_leave_something_to_retain_however_few_they_are() -> None:
    sets = draw_forget_sets(PopulationConfig(runs=2048, held_out_pairs=0.0), shards(2, 3))
    assert not sets.training.all(1).any() and (sets.training.sum(1) == 5).any()


def test_of_two_groups_a_quarter_of_the_runs_forgets_nothing() -> None:
    sets = draw_forget_sets(PopulationConfig(runs=2000), Groups.of_classes("ab"))
    shares = [(sets.training == torch.tensor(mask)).all(1).float().mean().item() for mask in ([0, 0], [1, 0], [0, 1], [1, 1])]
    assert shares == pytest.approx([0.25, 0.375, 0.375, 0], abs=0.04)


def test_the_same_seed_gives_the_same_population_and_another_another(digits: Dataset) -> None:
    first, again = train_population(TINY, digits, "cpu"), train_population(TINY, digits, "cpu")
    assert torch.equal(first.weights, again.weights)
    assert not torch.equal(first.weights, train_population(replace(TINY, seed=1), digits, "cpu").weights)


def test_retrained_targets_of_one_spec_differ_in_data_order_too(digits: Dataset) -> None:
    population = train_population(replace(TINY, weight_noise=0.0, reference_runs=2, runs=4), digits, "cpu")
    rows = population.reference & population.final
    first, second = population.weights[rows].chunk(2)
    assert torch.equal(*population.forgotten[rows].chunk(2))
    assert ((first - second).abs().amax(1) > 1e-4).all()


def test_only_what_is_in_scope_is_trained_and_the_shared_values_come_back_from_disk(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, architecture="own_networks:frozen", scope="head.*", train_steps=60)
    population = train_population(config, digits, "cpu")
    target = population.target
    assert population.weights.shape[1] == population.initial.numel() == target.size == 370
    assert population.losses[population.final].mean() < population.losses[population.step == 22].mean()
    population.save(tmp_path / "population")
    again = Population.load(tmp_path / "population").target
    assert again.shared.keys() == target.shared.keys() and "body.1.running_mean" in target.shared
    assert all(torch.equal(again.shared[name], tensor) for name, tensor in target.shared.items())
    images = digits.test.images
    assert torch.equal(again.logits(population.weights[:3], images), target.logits(population.weights[:3], images))


@pytest.mark.parametrize("architecture", ["mlp-32", "lenet"])
def test_any_plain_module_can_be_a_target(architecture: str, digits: Dataset) -> None:
    population = train_population(replace(TINY, architecture=architecture, train_steps=60), digits, "cpu")
    late, early = (population.losses[population.step == step] for step in (60, 22))
    kept = ~population.forgotten[population.final]
    assert late[kept].mean() < early[kept].mean()


def test_a_population_comes_back_from_disk(digits: Dataset, tmp_path: Path) -> None:
    population = train_population(TINY, digits, "cpu")
    population.save(tmp_path / "population")
    again = Population.load(tmp_path / "population")
    assert again.config == population.config and again.made_from == digits.identity
    for name in ("weights", "forgotten", "forget_weight"):
        assert torch.equal(getattr(again, name), getattr(population, name))
    with (tmp_path / "population" / "population.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(population.weights)
    assert table[0]["role"] == "train" and table[-1]["role"] == "reference"
    assert float(table[5]["loss_7"]) == pytest.approx(population.losses[5, 7].item(), rel=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runs", 0),
        ("train_steps", -1),
        ("checkpoints", 601),
        ("learning_rate", float("nan")),
        ("set_sizes", (1.0,)),
        ("seed", -1),
        ("partial", 0.6),
        ("warm_up", 1.0),
        ("warm_up", -0.1),
        ("scope", ""),
        ("scope", "fc.*,"),
        ("architecture", "cnn"),
    ],
)
def test_a_bad_configuration_is_refused_by_field_and_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} = .*allowed:"):
        PopulationConfig(**{field: value})  # type: ignore[arg-type]


def test_fresh_targets_forget_as_asked_and_differ_from_each_other_and_from_the_reference(
    population: Population, digits: Dataset
) -> None:
    seven = torch.zeros(1, 10, dtype=torch.bool)
    seven[0, 7] = True
    fresh = retrain(population.config, digits, seven.repeat(2, 1), seed=1, device="cpu", together=1)
    accuracies = Outputs.of_targets(population.target, fresh, digits.test, 10).accuracies
    assert accuracies[:, 7].max() == 0 and accuracies.mean() > 0.75
    own = population.weights[population.reference & population.final & (population.forgotten == seven).all(1)]
    assert torch.pdist(torch.cat([fresh, own])).min() > 0.1
    assert torch.equal(retrain(population.config, digits, seven, seed=1, device="cpu"), fresh[:1])


def test_a_set_is_drawn_without_the_pairs_that_stay_apart() -> None:
    assert _draw_without({(1, 3)}, [3, 0, 1, 2], 3) == [3, 0, 2]
    assert _draw_without({(1, 3)}, [3, 0, 1, 2], 2) == [3, 0]
    assert _draw_without({(0, 1), (0, 2)}, [0, 1, 2], 2) == [0]
    assert _draw_without(set(), [2, 1], 0) == []


def test_checkpoints_are_at_the_end_and_at_three_fifths_of_the_one_after() -> None:
    assert PopulationConfig(train_steps=600, checkpoints=4).checkpoint_steps == {600, 360, 216, 130}
    assert PopulationConfig(train_steps=2, checkpoints=2).checkpoint_steps == {2, 1}


def test_the_first_step_of_a_chunk_is_that_of_each_run_alone(digits: Dataset) -> None:
    """SGD without decay: weights less learning rate times gradient of the weighted loss on the first minibatch."""
    config = replace(TINY, optimiser="sgd", weight_decay=0.0, train_steps=1, checkpoints=1, batch_size=16)
    forgotten = torch.zeros(2, 10, dtype=torch.bool)
    forgotten[1, digits.train.labels[0]] = True
    rows = train_chunk(config, digits, Chunk(forgotten, torch.tensor([0.0, 0.25]), seed=5), "cpu")

    generator = generator_of(5)
    noise = torch.from_numpy(generator.random((2, len(digits.train)), np.float32)) * 2 - 1
    batch = generator.permutation(len(digits.train))[:16]
    weight = (1 + 0.5 * noise) * (1 - 0.75 * forgotten[:, digits.train.groups].float())
    target = Target.for_dataset("mlp-16", digits)
    for run in range(2):
        weights = target.initial_weights(0).requires_grad_()
        logits = target.logits(weights[None], digits.train.images[batch])[0]
        loss = cross_entropy(logits, digits.train.labels[batch], reduction="none")
        (loss * weight[run, batch]).sum().div(weight[run, batch].sum()).backward()
        expected = weights.detach() - config.learning_rate * (1 + 0.9) * weights.grad  # Nesterov's first step
        torch.testing.assert_close(rows.weights[run], expected, rtol=1e-3, atol=2e-4)
    assert rows.run.tolist() == [0, 1] and rows.step.tolist() == [1, 1]


@pytest.mark.parametrize(("warm_up", "shares"), [(0.0, [1, 0.75, 0.25]), (0.4, [0.5, 1, 0.5])])
def test_the_learning_rate_rises_for_a_share_of_the_steps_and_falls_to_none(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, warm_up: float, shares: list[float]
) -> None:
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, *of: object) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(*of)

    monkeypatch.setitem(OPTIMISERS, "sgd", Recorded)
    config = replace(TINY, train_steps=3, warm_up=warm_up)
    train_chunk(config, digits, Chunk(torch.zeros(1, 10, dtype=torch.bool), torch.zeros(1), seed=5), "cpu")
    assert rates == pytest.approx([share * config.learning_rate for share in shares])


def test_chunks_that_the_store_has_are_not_trained_again(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, trained, interrupted = Engine(store=str(tmp_path / "store")), [], Event()
    interrupted.set()

    def train(config: PopulationConfig, dataset: Dataset, chunk: Chunk, *rest: object) -> object:
        trained.append(chunk.seed)
        if interrupted.is_set() and len(trained) == 3:
            raise KeyboardInterrupt
        return train_chunk(config, dataset, chunk, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "train_chunk", train)
    with pytest.raises(KeyboardInterrupt):
        train_population(TINY, digits, "cpu", engine)
    assert len(list((tmp_path / "store").iterdir())) == 2
    interrupted.clear()
    resumed = train_population(TINY, digits, "cpu", engine)
    expected = [seed_of("population", TINY.seed, number) for number in range(12)]  # 12 runs and 76 references, eight in each
    assert trained == [*expected[:3], *expected[2:]]
    assert torch.equal(resumed.weights, train_population(TINY, digits, "cpu").weights)
    trained.clear()
    train_population(replace(TINY, weight_decay=0.5), digits, "cpu", engine)
    assert len(trained) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "spark"}, "name = 'spark' is not allowed; allowed: local, ray"),
        (
            {"ray_address": "127.0.0.1:6379"},
            "ray_address = '127.0.0.1:6379' is not allowed; allowed: empty, unless engine is ray",
        ),
        ({"threads": -1}, "threads = -1 is not allowed; allowed: a whole number from 0"),
    ],
)
def test_an_engine_that_there_is_not_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(**options)  # type: ignore[arg-type]


def test_without_ray_the_engine_says_what_to_install(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hf_mlops.population.cluster", None)
    with pytest.raises(ValueError, match=r"engine = 'ray' needs Ray .*: pip install 'hf_mlops\[ray\]'"):
        train_population(TINY, digits, "cpu", Engine("ray"))


def test_the_number_of_threads_is_put_back(digits: Dataset) -> None:
    before = torch.get_num_threads()
    train_population(replace(TINY, train_steps=3, checkpoints=1), digits, "cpu", Engine(threads=before + 1))
    assert torch.get_num_threads() == before
