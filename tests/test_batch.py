"""Batches of a small population made by hand: four runs with two checkpoints each, three classes, four weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_mlops import Dataset, HypernetConfig, Hypernetwork, Population, PopulationConfig
from hf_mlops.base.groups import Groups
from hf_mlops.base.noise import generator_of
from hf_mlops.data.dataset import Split
from hf_mlops.hypernet.batch import Batch, BatchDrawer, Kinds, further
from hf_mlops.population.target import Target
from hf_mlops.serving.signal import LossSignal

CONFIG = HypernetConfig(batch_size=128, composed=0.3, images=2, token_width=4, width=4, heads=2, layers=1)
START, MOVED, COMPOSED, PLAIN, AT_END = slice(0, 19), slice(19, 38), slice(0, 38), slice(38, 128), slice(0, 83)
FLAGS, ORDERS = slice(2, 5), slice(7, 9)  # of a signal: which groups are forgotten, which data order


@pytest.fixture
def dataset() -> Dataset:
    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(6) % 3, torch.arange(6) % 3)
    return Dataset("tiny", split, split, split, ("a", "b", "c"), Groups.of_classes("abc"))


@pytest.fixture
def population(dataset: Dataset) -> Population:
    """Runs that forget nothing, a, b and c, after one step and at the end, and one of the reference; two share a data order."""
    generator = torch.Generator().manual_seed(1)
    forgotten = torch.cat([torch.zeros(1, 3), torch.eye(3), torch.zeros(1, 3)]).bool()
    run = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])
    return Population(
        config=PopulationConfig(architecture="mlp-16", runs=4, train_steps=2, checkpoints=2, reference_runs=1, chunk=2),
        target=Target("by-hand", (1, 2, 2), 3, [0.5], [0.5], shapes={"weights": (4,)}, shared={}),
        groups=dataset.groups,
        made_from=dataset.identity,
        initial=torch.zeros(4),
        weights=torch.randn(9, 4, generator=generator),
        forgotten=forgotten[run],
        forget_weight=torch.zeros(9),
        losses=torch.rand(9, 3, generator=generator) + 0.1,
        accuracies=torch.ones(9, 3),
        run=run,
        step=torch.tensor([1, 1, 1, 1, 2, 2, 2, 2, 2]),
        reference=torch.arange(9) == 8,
        held_out=torch.zeros(0, 2, dtype=torch.long),
    )


class WithoutNoise(BatchDrawer):
    """Shows what lies under the noise."""

    def times(self, generator: object) -> Tensor:
        return torch.zeros(self.config.batch_size)


@pytest.fixture
def drawer(population: Population, dataset: Dataset) -> BatchDrawer:
    hypernetwork = Hypernetwork.from_population(CONFIG, population, torch.full((3,), 1 / 3))
    guess = hypernetwork.denoiser.guess
    guess.coefficients[FLAGS, 0, :3] = 0.5 * torch.eye(3)  # a group that is forgotten, 1, or not, -1, makes a difference of 1
    return WithoutNoise(hypernetwork, population, dataset)


@pytest.fixture
def batch(drawer: BatchDrawer) -> Batch:
    return drawer.draw(0)


def rows_of(batch: Batch, population: Population) -> Tensor:
    """Which rows of the population a batch is made of."""
    same = (batch.weights[:, None] == population.weights).all(2)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def test_of_128_rows_38_are_composed_and_half_of_the_others_at_the_end_of_their_run() -> None:
    assert Kinds.of(128, 0.3) == (START, MOVED, COMPOSED, AT_END)
    assert Kinds.of(7, 1.0) == (slice(0, 3), slice(3, 7), slice(0, 7), slice(0, 7))


def test_rows_are_at_the_end_of_their_run_or_of_any_checkpoint(batch: Batch, population: Population) -> None:
    final = population.final[rows_of(batch, population)]
    assert final[AT_END].all()
    assert 10 < final[AT_END.stop :].sum() < 35  # of 45, half of the population's


def test_the_reference_is_never_in_a_batch(batch: Batch, population: Population) -> None:
    assert set(rows_of(batch, population).tolist()) == set(range(8))


def test_tokens_are_those_of_the_weights(batch: Batch, drawer: BatchDrawer) -> None:
    torch.testing.assert_close(batch.tokens, drawer.hypernetwork.space.encode(batch.weights).float())


def test_start_rows_are_told_no_data_order_and_all_others_that_of_their_run(batch: Batch, population: Population) -> None:
    told, run = batch.signal[:, ORDERS], population.run[rows_of(batch, population)]
    assert (told[START] == 0).all()
    assert torch.equal(told[START.stop :], torch.eye(2)[run[START.stop :] // 2])


def test_composed_rows_leave_one_retained_class_out_or_more_and_others_none(batch: Batch, population: Population) -> None:
    forgotten = population.forgotten[rows_of(batch, population)]
    assert batch.left_out[COMPOSED].any(1).all() and not batch.left_out[PLAIN].any()
    assert not (batch.left_out & forgotten).any()
    assert not (batch.left_out | forgotten).all(1).any()


def test_composed_rows_are_told_the_usual_losses_of_the_larger_set(
    batch: Batch, population: Population, drawer: BatchDrawer
) -> None:
    larger = (population.forgotten[rows_of(batch, population)] | batch.left_out)[COMPOSED]
    signal: LossSignal = drawer.hypernetwork.signal
    usual = drawer.hypernetwork.prompts.usual_losses(larger)
    torch.testing.assert_close(batch.signal[COMPOSED, : ORDERS.start], signal(usual, larger))
    assert torch.equal(batch.signal[COMPOSED, FLAGS], larger * 2.0 - 1)


def test_other_rows_are_told_their_own_losses(batch: Batch, population: Population, drawer: BatchDrawer) -> None:
    rows = rows_of(batch, population)[PLAIN]
    told = batch.signal[PLAIN, FLAGS] > 0
    own = drawer.hypernetwork.signal(population.losses[rows], told)
    torch.testing.assert_close(batch.signal[PLAIN, : ORDERS.start], own)
    forgot = population.forgotten[rows].any(1)
    assert torch.equal(told[forgot], population.forgotten[rows][forgot])


def test_half_of_the_rows_that_forgot_nothing_are_told_that_they_know_all_of_some_groups(
    drawer: BatchDrawer, population: Population
) -> None:
    batches = [drawer.draw(step) for step in range(20)]
    told = torch.cat([batch.signal[PLAIN, FLAGS] > 0 for batch in batches])
    nothing = torch.cat([~population.forgotten[rows_of(batch, population)][PLAIN].any(1) for batch in batches])
    share, sizes = told[nothing].any(1).float().mean().item(), told[nothing].sum(1).bincount()
    assert share == pytest.approx(0.5, abs=0.08) and len(sizes) == 3 and sizes[1] > 2 * sizes[2] > 0


def test_moved_rows_have_their_tokens_moved_by_the_linear_guess_and_others_as_they_are(batch: Batch) -> None:
    """By 1 for each class left out, by the coefficients of the fixture."""
    moved = batch.noisy - batch.tokens
    assert (moved[START] == 0).all() and (moved[PLAIN] == 0).all()
    expected = torch.cat([batch.left_out[MOVED].float(), torch.zeros(19, 1)], 1)[:, None]
    torch.testing.assert_close(moved[MOVED], expected, rtol=0, atol=1e-5)


def test_noise_is_that_of_the_times(drawer: BatchDrawer, population: Population, dataset: Dataset) -> None:
    noisy = BatchDrawer(drawer.hypernetwork, population, dataset).draw(0)
    assert noisy.time.min() >= 0 and noisy.time.max() <= 1 and 0.4 < noisy.time.mean() < 0.6
    share = torch.cos(noisy.time * torch.pi / 2)[:, None, None]
    noise = ((noisy.noisy - share * noisy.tokens) / (1 - share**2).sqrt())[PLAIN]
    assert abs(float(noise.mean())) < 0.2 and 0.8 < float(noise.std()) < 1.2


def test_a_batch_is_that_of_its_step_whatever_was_drawn_before(drawer: BatchDrawer) -> None:
    first, second, again = drawer.draw(3), drawer.draw(4), drawer.draw(3)
    assert torch.equal(first.weights, again.weights) and torch.equal(first.images, again.images)
    assert not torch.equal(first.weights, second.weights)


def test_images_are_of_the_training_split(batch: Batch, dataset: Dataset) -> None:
    assert batch.images.shape == (2, 1, 2, 2)
    assert all(any(torch.equal(one, image) for image in dataset.train.images) for one in batch.images)


def test_images_come_with_their_labels(batch: Batch, dataset: Dataset) -> None:
    pair = dataset.train.images, dataset.train.labels
    for image, label in zip(batch.images, batch.labels, strict=True):
        assert any(torch.equal(image, one) and label == own for one, own in zip(*pair, strict=True))


def test_what_is_kept_was_not_forgotten_and_is_not_left_out(batch: Batch, population: Population) -> None:
    forgotten = population.forgotten[rows_of(batch, population)]
    assert torch.equal(batch.kept, ~(forgotten | batch.left_out)) and batch.kept.any(1).all()


def test_a_class_left_out_is_taught_by_the_end_of_a_run_that_forgot_it_alone(batch: Batch, population: Population) -> None:
    assert len(batch.teachers) == COMPOSED.stop and not batch.taught[PLAIN].any()
    assert (batch.taught.sum(1)[COMPOSED] == 1).all() and not (batch.taught & ~batch.left_out).any()
    for weights, taught in zip(batch.teachers, batch.taught, strict=False):
        (row,) = (population.weights == weights).all(1).nonzero()[:, 0].tolist()
        assert population.final[row] and torch.equal(population.forgotten[row], taught)


def test_a_run_that_forgot_in_part_is_shown_as_it_is_but_composes_and_teaches_nothing(
    drawer: BatchDrawer, population: Population, dataset: Dataset
) -> None:
    b_in_part = replace(population, forget_weight=(population.run == 2) * 0.1)
    batch = WithoutNoise(drawer.hypernetwork, b_in_part, dataset).draw(0)
    rows = rows_of(batch, population)
    in_part = population.run[rows] == 2
    assert not in_part[COMPOSED].any() and in_part[PLAIN].any() and not batch.taught[:, 1].any()


def test_in_the_linear_guess_only_ends_count_much_that_left_all_of_their_forget_set_out(
    drawer: BatchDrawer, population: Population, dataset: Dataset
) -> None:
    assert drawer.likeness().tolist() == pytest.approx([0.03] * 4 + [1] * 4)
    b_in_part = replace(population, forget_weight=(population.run == 2) * 0.1)
    weight = WithoutNoise(drawer.hypernetwork, b_in_part, dataset).likeness()
    assert weight.tolist() == pytest.approx([0.03] * 4 + [1, 1, 0.03, 1])


@pytest.mark.parametrize(("runs", "told"), [(8, False), (12, True)])
def test_pairs_are_told_apart_by_runs_and_a_checkpoint_on_the_way_is_no_run(
    population: Population, runs: int, told: bool
) -> None:
    """Three groups make three pairs, for which there are to be twelve runs; eight have sixteen checkpoints."""
    rows = ("weights", "forgotten", "forget_weight", "losses", "accuracies", "run", "step", "reference")
    many = replace(population, **{name: torch.cat([getattr(population, name)] * (runs // 4)) for name in rows})
    made = Hypernetwork.from_population(CONFIG, many, torch.full((3,), 1 / 3))
    assert bool(made.signal.pairs) is bool(made.prompts.pairs) is told
    assert made.prompts.usual.shape == (2, 3, 7 if told else 4) and made.signal.width == (13 if told else 7)


def test_of_several_that_forgot_a_class_any_may_teach_it(drawer: BatchDrawer, population: Population) -> None:
    drawer.alone = [torch.tensor([5, 6, 7])] * 3
    found = {int((population.weights == one).all(1).nonzero()) for step in range(3) for one in drawer.draw(step).teachers}
    assert found == {5, 6, 7}


def test_a_class_that_no_run_forgot_alone_is_not_taught(drawer: BatchDrawer) -> None:
    drawer.alone[1] = drawer.alone[1][:0]
    batch = drawer.draw(0)
    left_out, taught = batch.left_out[COMPOSED], batch.taught[COMPOSED]
    assert not taught[:, 1].any() and (left_out[:, 1] & ~taught.any(1)).any()
    assert torch.equal(taught.any(1), left_out[:, [0, 2]].any(1))


def test_no_class_is_left_out_that_several_groups_hold(drawer: BatchDrawer, population: Population, dataset: Dataset) -> None:
    others = replace(dataset, groups=replace(dataset.groups, holders=((0, 1, 2),) * 3))
    batch = WithoutNoise(drawer.hypernetwork, population, others).draw(0)
    assert not batch.left_out.any() and batch.kept.all()
    assert torch.equal(batch.noisy, batch.tokens)


def test_leaving_out_a_class_stands_for_forgetting_all_groups_of_it(
    drawer: BatchDrawer, population: Population, dataset: Dataset
) -> None:
    """Class 0 is in groups a and b, class 1 in c: who forgot a can be without class 0 by forgetting b."""
    others = replace(dataset, groups=replace(dataset.groups, holders=((0, 1), (2,))), class_names=("0", "1"))
    batch = WithoutNoise(drawer.hypernetwork, population, others).draw(0)
    forgotten = population.forgotten[rows_of(batch, population)]
    told = batch.signal[:, FLAGS] > 0
    for left_out, kept, forgot, flags in zip(batch.left_out, batch.kept, forgotten, told, strict=False):
        assert left_out.sum() <= 1 and not (left_out & kept).any() and kept.any()
        if left_out[0]:
            assert flags.tolist() == [True, True, False] and not forgot[2]
        if left_out[1]:
            assert flags.tolist() == [bool(forgot[0]), bool(forgot[1]), True]
    assert batch.left_out[COMPOSED].any(0).all() and not batch.left_out[PLAIN].any()
    assert torch.equal(batch.taught[:, 0], torch.zeros(128).bool()) and batch.taught[:, 1].any()  # no run forgot a and b alone


def test_one_further_group_has_a_chance_of_three_quarters_and_two_of_three_sixteenths() -> None:
    forgotten = torch.zeros(4000, 6, dtype=torch.bool)
    forgotten[:, 0] = True
    drawn = further(forgotten, ~forgotten, generator_of(0))
    assert not drawn[:, 0].any()
    shares = (drawn.sum(1).bincount(minlength=5) / 4000).tolist()
    assert shares == pytest.approx([0, 3 / 4, 3 / 16, 3 / 64, 1 / 64], abs=0.02)
    assert (drawn[:, 1:].float().mean(0) - drawn.float().sum(1).mean() / 5).abs().max() < 0.03  # all alike


def test_only_those_that_are_able_are_drawn() -> None:
    none = torch.zeros(100, 4, dtype=torch.bool)
    able = torch.tensor([[False, True, False, False]]).repeat(100, 1)
    assert torch.equal(further(none, able, generator_of(0)), able)
    assert not further(none, none, generator_of(0)).any()


def test_one_group_is_always_retained() -> None:
    all_but_two = torch.tensor([[True, False, True, False]]).repeat(50, 1)
    assert (further(all_but_two, ~all_but_two, generator_of(0)).sum(1) == 1).all()
    all_but_one = torch.tensor([[True, False]])
    assert not further(all_but_one, ~all_but_one, generator_of(0)).any()
