from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hf_mlops.report import pictures


def test_the_heat_map_shows_samples_over_the_reference() -> None:
    sampled, retrained = np.float32([[0.0, 0.9, 0.5], [0.8, 0.1, 0.7]]), np.float32([[0.0, 1.0, 0.6], [0.9, 0.0, 0.8]])
    above, below, *_ = pictures.accuracy_heat_map(sampled, retrained, ["x", "y"], ["x", "y", "z"]).axes
    np.testing.assert_allclose(above.images[0].get_array(), sampled)
    np.testing.assert_allclose(below.images[0].get_array(), retrained)
    assert [text.get_text() for text in above.texts] == ["0", "90", "50", "80", "10", "70"]
    assert [text.get_text() for text in above.get_xticklabels()] == ["x", "y", "z"]


def test_every_sample_of_a_prompt_sweep_is_a_dot() -> None:
    sweep = pd.DataFrame(
        {
            "asked": ["retain_loss", "retain_loss", "forget_loss"],
            "prompted_retain_loss": [0.1, 0.2, 0.1],
            "observed_retain_loss": [0.15, 0.25, 0.12],
            "prompted_forget_loss": [4.0, 4.0, 6.0],
            "observed_forget_loss": [4.5, 4.4, 5.0],
        }
    )
    names = ["alignment", "slope", "alignment, ignored"]
    figures = [[0.5, 0.9, 0.1], [0.25, 0.4, 0.2], [0.125, 0.7, 0.3]]
    alignment = pd.DataFrame(figures, index=["retain", "forget", "both"], columns=names)
    figure = pictures.prompted_against_observed(sweep, alignment)
    retain, forget = figure.axes
    for axes, name in ((retain, "retain"), (forget, "forget")):
        dots = np.concatenate([part.get_offsets() for part in axes.collections])
        np.testing.assert_allclose(dots, sweep[[f"prompted_{name}_loss", f"observed_{name}_loss"]])
    assert "R² 0.500, slope within a spec 0.90" in retain.get_title()
    assert "R² 0.250, slope within a spec 0.40" in forget.get_title()
    figure.canvas.draw()
    first, second = (axes.title.get_window_extent() for axes in (retain, forget))
    assert first.x1 < second.x0 and second.x1 <= figure.bbox.x1
    assert figure._suptitle is not None and "over both sets 0.125; if prompts were ignored 0.300" in figure._suptitle.get_text()


def test_losses_of_0_are_drawn_at_the_floor_of_a_logarithmic_axis() -> None:
    columns = {
        "prompted_retain_loss": [0.0, 0.1],
        "observed_retain_loss": [0.0, 0.2],
        "prompted_forget_loss": [4.0, 4.0],
        "observed_forget_loss": [5.0, 5.0],
    }
    names = ["alignment", "slope", "alignment, ignored"]
    unknown = pd.DataFrame(np.nan, index=["retain", "forget", "both"], columns=names)
    figure = pictures.prompted_against_observed(pd.DataFrame({"asked": "retain_loss", **columns}), unknown)
    figure.canvas.draw()
    retain = figure.axes[0]
    np.testing.assert_allclose(retain.collections[0].get_offsets(), [[0.001, 0.001], [0.1, 0.2]])
    assert retain.get_xlim()[0] > 1e-4


def test_the_titles_of_a_heat_map_of_two_classes_have_their_room() -> None:
    figure = pictures.accuracy_heat_map(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32), ["x", "y"], ["x", "y"])
    figure.canvas.draw()
    for text in (figure._suptitle, *(axes.title for axes in figure.axes)):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_accuracies_are_drawn_over_steps_beside_the_retrained() -> None:
    steps = pd.DataFrame({"steps": [1, 3], "retain_accuracy": [0.8, 0.9], "forget_accuracy": [0.02, 0.01]})
    steps = steps.assign(reference_retain_accuracy=0.95, reference_forget_accuracy=0.005)
    for axes, name in zip(pictures.accuracy_over_steps(steps).axes, ("retain", "forget"), strict=True):
        sampled, retrained = axes.lines
        np.testing.assert_allclose(sampled.get_xydata(), steps[["steps", f"{name}_accuracy"]])
        assert set(retrained.get_ydata()) == {steps[f"reference_{name}_accuracy"][0]}


def test_accuracies_on_what_is_forgotten_are_in_view_however_high_they_are() -> None:
    steps = pd.DataFrame({"steps": [1, 3], "retain_accuracy": [0.8, 0.9], "forget_accuracy": [0.5, 0.9]})
    steps = steps.assign(reference_retain_accuracy=0.95, reference_forget_accuracy=0.95)
    _, forget = pictures.accuracy_over_steps(steps).axes
    assert forget.get_ylim()[0] < 0 and forget.get_ylim()[1] > 0.95
    low = pictures.accuracy_over_steps(steps.assign(forget_accuracy=0.0, reference_forget_accuracy=0.01)).axes[1]
    assert low.get_ylim() == pytest.approx((-0.02, 0.1))


def test_subsets_are_drawn_by_the_number_of_classes_forgotten() -> None:
    table = pd.DataFrame({"classes": [1, 1, 2], "gap": [0.5, 1.5, 3.0], "forget_accuracy": [0.0, 0.2, 0.1]})
    gaps, left = pictures.gaps_by_size(table).axes
    assert [text.get_text() for text in gaps.get_xticklabels()] == ["1", "2"]
    medians = [line.get_ydata()[0] for line in gaps.lines if line.get_color() == "C1"]
    assert medians == [1, 3]
    assert [line.get_ydata()[0] for line in left.lines if line.get_color() == "C1"] == [0.1, 0.1]


def test_each_number_of_groups_has_a_curve_of_few_cores_and_one_of_many() -> None:
    keys = [(groups, cores, 10.0**power) for groups in (10, 20) for cores in (1, 8) for power in (0, 4)]
    requests = pd.DataFrame(keys, columns=["groups", "cores", "retraining"]).assign(requests=[9, 5, 8, 4, 9, 5, 8, 3])
    tables = requests.rename(columns={"groups": "unions", "requests": "groups"}).replace({"unions": {10: 2, 20: 100}})
    figure = pictures.paid_for_itself(requests, tables, 1.25, 100, "digits")
    for axes, values in zip(figure.axes, (requests["requests"], tables["groups"]), strict=True):
        *drawn, here = axes.get_lines()
        assert [line.get_linestyle() for line in drawn] == ["-", "--"] * 2
        assert len({line.get_color() for line in drawn}) == 2
        np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in drawn]), values)
        np.testing.assert_allclose(here.get_xdata(), 1.25)
    texts = [[text.get_text() for text in legend.get_texts()] for legend in (figure.axes[0].get_legend(), *figure.legends)]
    assert texts[0] == ["10 groups", "20 groups", "as measured: 1.2 s"]
    assert texts[1] == ["a table of every union of up to 2 groups", "a table of every union", "as measured: 1.2 s"]
    assert figure._suptitle is not None and "digits, 1 core (lines) and 8 cores (dashes)" in figure._suptitle.get_text()
