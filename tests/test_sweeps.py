from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hf_mlops import (
    Dataset,
    ForgetSpec,
    Groups,
    HypernetConfig,
    Hypernetwork,
    PopulationConfig,
    Reference,
    Split,
    best_fit,
    train_hypernetwork,
    train_population,
)
from hf_mlops.audit.sweeps import audit_specs, prompt_alignment, prompt_sweep, step_sweep
from hf_mlops.audit.tables import accuracy_per_group, reference_summary, spec_table, summary
from hf_mlops.report import pictures
from hf_mlops.serving.prompts import PromptBook


def sweep_of(forget: str = "", **columns: list[float]) -> pd.DataFrame:
    """From log losses, whose floor is 0.001; a sample of a spec, a letter of `forget`, for each prompt on D_r."""
    losses = pd.DataFrame({f"{name}_loss": np.exp(logs) - 0.001 for name, logs in columns.items()})
    return losses.assign(forget=list(forget or "a" * len(losses)), asked="retain_loss", sample=0)


def alignment(sweep: pd.DataFrame) -> dict[str, float]:
    return prompt_alignment(sweep)["alignment"].to_dict()


def test_alignment_is_the_share_of_the_variance_of_log_losses_that_prompts_explain() -> None:
    sweep = sweep_of(
        prompted_retain=[-2, 0, 2],
        observed_retain=[-2, 0, 5],  # mean 1: 9 + 1 + 16 = 26 in all, 9 missed
        prompted_forget=[1, 2, 3],
        observed_forget=[2, 2, 5],  # mean 3: 1 + 1 + 4 = 6 in all, 1 + 4 missed
    )
    # over both: the mean is 2, 16 + 4 + 9 + 0 + 0 + 9 = 38 in all, 14 missed
    assert alignment(sweep) == pytest.approx({"retain": 1 - 9 / 26, "forget": 1 - 5 / 6, "both": 1 - 14 / 38})


def test_what_a_prompt_does_within_a_spec_stands_beside_samples_that_ignore_it() -> None:
    """Between specs the losses differ as they are asked to, within one they go half of the way."""
    asked, came, same = [0.0, 1, 2, 1, 2, 3], [0, 0.5, 1, 1, 1.5, 2], [1.0] * 6
    sweep = sweep_of("aaabbb", prompted_retain=asked, observed_retain=came, prompted_forget=same, observed_forget=same)
    found = prompt_alignment(sweep)
    assert found.loc["retain"].to_dict() == pytest.approx(
        {
            "alignment": 1 - 2.5 / 2.5,  # mean 1: 1 + 1/4 + 0 + 0 + 1/4 + 1 in all, and twice 0 + 1/4 + 1 missed
            "within spec": 1 - 2.5 / 1,  # means 1/2 and 3/2: twice 1/4 + 0 + 1/4 in all
            "slope": 0.5,
            "alignment, ignored": 1 - 10 / 1.5,  # 0 0 0 and 1 1 1: mean 1/2, and twice 0 + 1 + 4 missed
            "within spec, ignored": np.nan,
            "slope, ignored": 0,
        },
        nan_ok=True,
    )
    assert found.loc["forget"].isna().all()  # nothing was asked, and all had the same


def test_what_was_asked_of_another_loss_does_not_count_within_a_spec() -> None:
    asked = sweep_of(prompted_retain=[0.0, 1], observed_retain=[0, 1], prompted_forget=[1.0, 1], observed_forget=[3.0, 5])
    other = sweep_of(prompted_retain=[0.0, 0], observed_retain=[7, 9], prompted_forget=[1.0, 2], observed_forget=[1.0, 2])
    found = prompt_alignment(pd.concat([asked, other.assign(asked="forget_loss")]))
    assert found.loc[["retain", "forget"], ["within spec", "slope"]].to_numpy() == pytest.approx(np.ones((2, 2)))


def test_alignment_is_1_for_samples_that_obey_and_below_0_for_those_that_do_the_opposite() -> None:
    asked = [-2.0, 0.0, 2.0]
    obeying = sweep_of(prompted_retain=asked, observed_retain=asked, prompted_forget=asked, observed_forget=asked)
    assert alignment(obeying) == pytest.approx({"retain": 1, "forget": 1, "both": 1})
    defying = sweep_of(prompted_retain=asked, observed_retain=asked[::-1], prompted_forget=asked, observed_forget=asked)
    assert alignment(defying)["retain"] == pytest.approx(-3)


def test_a_loss_of_0_counts_and_samples_without_a_forget_set_count_by_what_they_keep() -> None:
    sweep = sweep_of(prompted_forget=[np.nan, 1, 2], observed_forget=[np.nan, 2, 4])  # mean 3: 2 in all, 1 + 4 missed
    sweep["prompted_retain_loss"] = sweep["observed_retain_loss"] = [0.0, np.e - 0.001, np.e - 0.001]
    lowest = np.log(0.001)
    total = lowest**2 + 1 + 1 + 2**2 + 4**2 - (lowest + 1 + 1 + 2 + 4) ** 2 / 5
    assert alignment(sweep) == pytest.approx({"retain": 1, "forget": 1 - 5 / 2, "both": 1 - 5 / total})


def test_every_spec_is_audited_by_as_many_samples_as_asked_for(
    hypernetwork: Hypernetwork, reference: Reference, digits: Dataset
) -> None:
    specs = [ForgetSpec.parse(text, digits.groups.names) for text in ("7", "3,5")]
    audits = audit_specs(hypernetwork, reference, digits, specs, n=3, seed=4, steps=1)
    assert list(audits) == specs and [len(one.sampled.losses) for one in audits.values()] == [3, 3]
    answers = hypernetwork.target.logits(hypernetwork.sample("3,5", 3, seed=4, steps=1).weights, digits.test.images)
    assert (audits[specs[1]].sampled.predictions == answers.argmax(-1)).all()


def test_a_prompt_sweep_asks_for_losses_and_says_what_came(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    spec = ForgetSpec.parse("7", digits.groups.names)
    sweep = prompt_sweep(hypernetwork, digits, [spec], n=2)
    assert sweep["asked"].tolist() == ["retain_loss"] * 12 + ["forget_loss"] * 12
    assert sweep["sample"].tolist() == [0, 1] * 12 and set(sweep["forget"]) == {"7"}
    for part, name in ((sweep[:12], "retain_loss"), (sweep[12:], "forget_loss")):
        assert part[f"prompted_{name}"].is_monotonic_increasing
        assert part[[f"prompted_{name}", f"observed_{name}"]].corr().iloc[0, 1] > 0.8


def test_a_step_sweep_has_the_mean_figures_of_audits_with_so_many_steps(
    hypernetwork: Hypernetwork, reference: Reference, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mlops.audit.sweeps.STEPS_SWEPT", (1, 3))
    specs = [ForgetSpec.parse(text, digits.groups.names) for text in ("0", "1")]
    table = step_sweep(hypernetwork, reference, digits, specs, n=2)
    assert list(table["steps"]) == [1, 3]
    three = [one.figures() for one in audit_specs(hypernetwork, reference, digits, specs, n=2, steps=3).values()]
    assert three[0]["retain_accuracy"] != three[1]["retain_accuracy"]
    for name in three[0]:
        assert table[name][1] == pytest.approx((three[0][name] + three[1][name]) / 2)


def of_two_classes(digits: Dataset) -> Dataset:
    """Zeros and ones, which are so easily told apart that losses on D_r are 0."""

    def part(split: Split) -> Split:
        rows = split.labels < 2
        return Split(split.images[rows], split.labels[rows], split.groups[rows])

    parts = (part(split) for split in (digits.train, digits.validation, digits.test))
    return Dataset("zeros and ones", *parts, ("0", "1"), Groups.of_classes(["0", "1"]))


@pytest.mark.parametrize("variant", ["dihyfo-1", "dihyfo-2"])
def test_two_classes_go_the_whole_way_from_population_to_pictures(variant: str, digits: Dataset) -> None:
    data = of_two_classes(digits)
    population = train_population(PopulationConfig(runs=64, train_steps=100, reference_runs=2, chunk=32), data, "cpu")
    config = HypernetConfig(train_steps=60, batch_size=32, variant=variant)
    hypernetwork = train_hypernetwork(config, population, data, "cpu")
    reference = Reference.of(population, data)
    specs = reference.specs()
    singles = specs[1:]
    assert [str(spec) for spec in specs] == ["", "0", "1"] and len(population.held_out) == 0
    audits = audit_specs(hypernetwork, reference, data, specs, n=4)
    by_kind = summary(spec_table(audits, reference))
    assert by_kind["kind"].tolist() == reference_summary(reference)["kind"].tolist() == ["nothing", "single"]
    assert by_kind["forget accuracy"][1] < 0.05 and by_kind["retain accuracy"].min() > 0.95
    prompts = prompt_sweep(hypernetwork, data, singles, n=2)
    assert len(prompts) == 2 * 2 * 6 * 2
    assert prompts.loc[prompts["asked"] == "retain_loss", "prompted_retain_loss"].between(0.0009, 0.5).all()
    alignment, steps = prompt_alignment(prompts), step_sweep(hypernetwork, reference, data, singles, n=2)
    each = {spec: audits[spec] for spec in singles}
    pictures.prompted_against_observed(prompts, alignment).canvas.draw()
    pictures.accuracy_over_steps(steps).canvas.draw()
    sampled, retrained = (values.numpy() for values in accuracy_per_group(each))
    pictures.accuracy_heat_map(sampled, retrained, [str(spec) for spec in singles], data.class_names).canvas.draw()
    for spec in specs:
        samples = hypernetwork.sample(spec, 3, start=population.weights[-1])
        assert best_fit(hypernetwork.target, samples, data) in range(3)


def test_losses_asked_for_stay_in_the_range_of_the_training_where_the_usual_one_is_0(
    hypernetwork: Hypernetwork, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss out of that range would be clipped with a warning, and warnings are errors here."""
    book, spec = hypernetwork.prompts, ForgetSpec.parse("7", digits.groups.names)
    asked: list[float] = []
    usual = PromptBook.prompt

    def prompt(
        book: PromptBook, spec: ForgetSpec, retain_loss: float | None = None, forget_loss: float | None = None
    ) -> object:
        asked.extend([] if retain_loss is None else [retain_loss])
        found = usual(book, spec, retain_loss, forget_loss)
        return replace(found, retain_loss=0.0) if retain_loss is None and forget_loss is None else found

    monkeypatch.setattr(PromptBook, "prompt", prompt)
    for highest, expected in ((0.5, np.geomspace(0.001, 0.45, 6)), (0.0005, [0.0005] * 6)):
        monkeypatch.setattr(hypernetwork, "prompts", replace(book, retain_range=torch.tensor([0.0, highest])))
        asked.clear()
        prompt_sweep(hypernetwork, digits, [spec], n=1)
        assert asked == pytest.approx(list(expected))


def test_alignment_is_not_a_number_where_all_samples_have_one_loss() -> None:
    sweep = sweep_of(prompted_retain=[-2, 0], observed_retain=[1, 1], prompted_forget=[1, 2], observed_forget=[2, 2])
    found = alignment(sweep)
    assert np.isnan([found["retain"], found["forget"]]).all()
    assert found["both"] == pytest.approx(1 - (9 + 1 + 1 + 0) / (4 * 0.25))
