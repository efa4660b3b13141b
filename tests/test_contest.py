"""The contest on poison: rivals forget it, are tuned without test images, and are judged by the attack and by clean images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import by_hand
import pandas as pd
import pytest
import torch
from torch import Tensor

import benchmarks
from benchmarks import rivals
from benchmarks import trained as training
from benchmarks.rival.contest import ORIGINAL, RETRAINED, SAMPLED, Contest
from benchmarks.rival.figures import FIGURES, RELEARNED, Classifiers, back_early, fresh
from benchmarks.rival.methods import MASK, METHODS
from benchmarks.rivals import compare, judged
from benchmarks.trained import Trained, trained
from hf_mlops import (
    Dataset,
    ForgetSpec,
    HypernetConfig,
    Hypernetwork,
    PopulationConfig,
    Reference,
    load_dataset,
    train_hypernetwork,
    train_population,
)
from hf_mlops.audit.measure import Measured
from hf_mlops.base.errors import BadRequest
from hf_mlops.population.outputs import Outputs


def made_of(data: Dataset, steps: int) -> Trained:
    """A few targets, and a hypernetwork that has learnt next to nothing."""
    population = train_population(PopulationConfig(runs=8, train_steps=steps, reference_runs=3), data, "cpu")
    hypernetwork = train_hypernetwork(HypernetConfig(train_steps=2, batch_size=8), population, data, "cpu")
    return Trained("few", data, population, hypernetwork, Reference.of(population, data), {"population": 60.0})


@pytest.fixture(scope="module")
def contest() -> Contest:
    """Two classifiers in production that have learnt a patch on a tenth of the images are to forget it."""
    made = made_of(load_dataset("digits", groups="poison:patch:0.1"), 250)
    specs = [spec for spec in made.reference.judged() if spec.groups]
    return Contest(made, specs, production=2, seed=0, device="cpu")


def called(contest: Contest, weights: Tensor, images: Tensor) -> Tensor:
    """What classifiers call images, (models, images)."""
    return contest.target.logits(weights, images).argmax(-1)


def test_poison_is_judged_by_the_attack_by_its_own_images_and_by_clean_ones(contest: Contest) -> None:
    (spec,), data = contest.specs, contest.data
    assert str(spec) == "poison" and data.triggered is not None
    found = contest.figures(spec, {name: {} for name in contest.methods})
    for way, weights in ((ORIGINAL, contest.production), (RETRAINED, contest.retrained(spec))):
        poisoned = data.train.images[data.train.groups == 1]
        for name, images, labels in (
            ("attack success", data.triggered.images, torch.tensor(0)),
            ("accuracy on D_f", poisoned, torch.tensor(0)),
            ("accuracy on D_r", data.test.images, data.test.labels),
        ):
            right = (called(contest, weights, images) == labels).float().mean(1)
            assert found[way][name] == pytest.approx(right.tolist(), abs=1e-6), (way, name)
    assert min(found[ORIGINAL]["attack success"]) > 0.95 and max(found[RETRAINED]["attack success"]) < 0.02
    assert min(found[ORIGINAL]["divergence on D_f"]) > 2 > max(found[RETRAINED]["divergence on D_f"])
    assert [list(one) for one in found.values()] == [list(FIGURES)] * (3 + len(contest.methods))


def test_rivals_are_tuned_on_poison_and_on_validation_images_alone(contest: Contest) -> None:
    data = contest.data
    poisoned = data.train.images[data.train.groups == 1]
    assert len(poisoned) == 108 and contest.validation.apart is not None
    torch.testing.assert_close(contest.validation.images, torch.cat([data.validation.images, poisoned]), rtol=0, atol=0)
    assert contest.validation.apart.tolist() == [False] * len(data.validation) + [True] * 108


def test_what_tuning_makes_small_is_large_where_a_backdoor_survives(contest: Contest) -> None:
    assert 0 < contest.tune("selective synaptic dampening", 1).objective < 5 < contest.tune("fine-tune", 1).objective < 20


def test_a_mask_is_a_rival_only_where_there_is_a_class_to_leave_out(contest: Contest) -> None:
    assert list(contest.methods) == [name for name in METHODS if name != MASK]
    left_out = contest.classifiers(contest.production, contest.specs[0], masked=True).left_out
    assert left_out is not None and not left_out.any()
    made = made_of(load_dataset("digits", groups="class-shard:2"), 6)
    whole = ForgetSpec.of(made.dataset.groups.holders[3], made.dataset.groups.names)
    classes = Contest(made, [whole], production=1, seed=0, device="cpu")
    assert list(classes.methods) == list(METHODS)
    left_out = classes.classifiers(classes.production, whole, masked=True).left_out
    assert left_out is not None and left_out.nonzero().tolist() == [[3]]


def test_every_way_is_in_the_tables_with_the_figures_that_there_are(
    contest: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    compare(contest, {name: {} for name in contest.methods}, turns=1, name="-few")
    table, gaps = (pd.read_csv(tmp_path / f"rivals{what}-few.csv", index_col="way") for what in ("", "-gaps"))
    assert list(table.index) == list(gaps.index) == [ORIGINAL, RETRAINED, SAMPLED, *contest.methods]
    assert (gaps.loc[ORIGINAL, list(FIGURES)] == 1).all() and gaps.loc[ORIGINAL, "sum of gaps"] == len(FIGURES)
    assert sorted(gaps["rank"].dropna()) == list(range(1, 3 + len(contest.methods)))
    assert table["seconds"].drop(ORIGINAL).min() > 0 and table.loc["gradient ascent", "needs"] == "D_f"
    assert table.loc["fine-tune", "attack success"] > 0.9  # a backdoor survives it
    (price,) = pd.read_csv(tmp_path / "rivals-price-few.csv").to_dict("records")
    assert price["trained once (s)"] == 60 and price["fastest rival as good"] in {*contest.methods, "none"}


def test_a_figure_that_the_data_do_not_have_is_no_column(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = (ORIGINAL, RETRAINED)
    figures = {way: {name: [torch.nan] * 2 if name == RELEARNED else [0.25, 0.75] for name in FIGURES} for way in ways}
    monkeypatch.setattr(contest, "figures", lambda spec, settings: figures)
    for table in judged(contest, {}):
        assert list(table.columns) == [name for name in FIGURES if name != RELEARNED]


def test_a_backdoor_comes_back_early_where_it_was_only_hidden(contest: Contest) -> None:
    spec = contest.specs[0]
    original, retrained = (contest.classifiers(some, spec) for some in (contest.production, contest.retrained(spec)))
    assert back_early(original, contest.data, 0).min() > 0.95
    before, after = retrained.on(contest.data.audited).attack_success, back_early(retrained, contest.data, 0)
    assert (before < after).all() and after.max() < 0.5


@pytest.mark.parametrize("groups", ["poison:flip:0.5", "shard:3", "shard:3+poison:patch:0.1"])
def test_of_customers_and_of_flipped_labels_nothing_comes_back(groups: str, contest: Contest) -> None:
    data = load_dataset("digits", groups=groups)
    spec = ForgetSpec.of([1 if groups.startswith("poison") else 0], data.groups.names)
    found = back_early(Classifiers(contest.target, contest.production, spec), data, 0)
    assert found.shape == (2,) and found.isnan().all()


APART = [False, False, False, False, False, True, True]  # the last two images of `by_hand`; of no group they have a trigger


@pytest.mark.parametrize(
    ("names", "groups", "expected"),
    [
        (("a", "b"), [0, 1, 0, 1, 0, 1, -1], [1, 3]),  # a class: test images in D_f
        (("a", "poison"), [0, 0, 0, 0, 0, 1, -1], [6]),
        (("a", "poison"), [0, 0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4]),  # a group of that name without a trigger
        (("a", "customer"), [-1, -1, -1, -1, -1, 1, -1], [0, 1, 2, 3, 4]),
    ],
)
def test_members_are_told_from_images_of_their_sort(names: tuple[str, str], groups: list[int], expected: list[int]) -> None:
    answers, labels = by_hand.log_probabilities("1111111"), torch.zeros(7, dtype=torch.int64)
    outputs = Outputs.of(answers, labels, torch.tensor(groups), 2, torch.tensor(APART))
    assert fresh(Measured(ForgetSpec.of([1], names), outputs)).nonzero()[:, 0].tolist() == expected


def test_pairs_that_there_are_none_of_are_refused(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "trained", lambda **choice: contest.made)
    with pytest.raises(
        BadRequest, match="there is no held-out pair to forget of the groups clean, poison; allowed: --pairs wh"
    ):
        rivals.command(["--pairs", "--groups", "poison:patch:0.1"], standalone_mode=False)


def test_where_poison_is_the_one_thing_to_forget_few_runs_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def begin(config: PopulationConfig, *rest: Any) -> None:
        raise Begun(config.runs)

    monkeypatch.setattr(training, "KEPT", tmp_path)
    monkeypatch.setattr(training, "train_population", begin)
    choice = {"dataset": "digits", "architecture": None, "data_dir": "", "device": "cpu", "seed": 0}
    for groups, given, runs in (
        ("poison:flip:0.5", None, 256),
        ("poison:flip:0.5", 64, 64),
        ("class+poison:flip:0.5", None, 2048),
    ):
        with pytest.raises(Begun, match=f"^{runs}$"):
            trained(groups=groups, product=False, afresh=False, runs=given, **choice)


def test_hypernetworks_of_both_variants_are_kept_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = "poison:flip:0.5"
    poisoned = load_dataset("digits", groups=groups)
    tiny = train_population(PopulationConfig(runs=16, train_steps=10, checkpoints=2, reference_runs=1), poisoned, "cpu")
    monkeypatch.setattr(training, "KEPT", tmp_path)
    monkeypatch.setattr(training, "train_population", lambda *rest: tiny)
    few: dict[str, Any] = {"dataset": "digits", "architecture": None, "data_dir": "", "device": "cpu", "hypernet_steps": 1}
    few |= {"seed": 0, "groups": groups, "product": False, "afresh": False}
    made = [trained(**few, variant=variant) for variant in (None, "dihyfo-2")]
    assert [one.hypernetwork.config.variant for one in made] == ["dihyfo-1", "dihyfo-2"]
    assert Hypernetwork.load(tmp_path / made[0].name / "hypernetwork").config.variant == "dihyfo-1"
