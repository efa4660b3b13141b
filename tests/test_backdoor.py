"""The picture of a backdoor: which images it shows, what classifiers call them, and how often the attack succeeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.colors
import numpy as np
import pytest
import torch
from torch import Tensor

from hf_mlops import Audit, Dataset, ForgetSpec, load_dataset
from hf_mlops.audit.measure import Measured
from hf_mlops.population.outputs import Outputs
from hf_mlops.report import pictures
from hf_mlops.report.backdoor import Answers, Backdoor, of_many_classes


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits", groups="poison:patch:0.05")


def measured(data: Dataset, forgotten: str, *predictions: Tensor) -> Measured:
    """Classifiers that call the triggered images what is said, and every other image of the audit a 3."""
    split, triggered = data.audited, data.triggered
    assert triggered is not None
    others = torch.full((len(predictions), len(split) - len(triggered)), 3)
    called = torch.cat([others, torch.stack(predictions)], 1)
    answers = torch.full((*called.shape, 10), 0.05).scatter(-1, called[..., None], 0.55).log()
    outputs = Outputs.of(answers, split.labels, split.groups, len(data.groups), split.apart)
    return Measured(ForgetSpec.parse(forgotten, data.groups.names), outputs)


def true_classes(data: Dataset) -> Tensor:
    assert data.victims is not None
    return data.test.labels[data.victims]


def evidence(data: Dataset) -> Audit:
    """Before, all are called 0, by one of two classifiers but half of them; retrained, all are right; after, 13 are 0."""
    truth = true_classes(data)
    half = torch.where(torch.arange(len(truth)) < 160, 0, truth)
    after = torch.where(torch.arange(len(truth)) < 13, 0, truth)
    wrong = torch.full_like(truth, 9)
    return Audit(
        measured(data, "poison", wrong, after),
        measured(data, "poison", truth, truth),
        measured(data, "", torch.zeros_like(truth), half),
    )


def test_images_are_of_as_many_classes_as_there_are_the_first_of_each() -> None:
    labels = np.array([5, 5, 5, 2, 2, 7])
    assert of_many_classes(labels, 3).tolist() == [3, 0, 5]
    assert of_many_classes(labels, 5).tolist() == [3, 4, 0, 1, 5]
    assert of_many_classes(labels, 2).tolist() == [3, 0]
    assert of_many_classes(labels, 99).tolist() == [3, 4, 0, 1, 2, 5]


def test_it_shows_triggered_test_images_of_eight_classes_beside_the_same_without_trigger(data: Dataset) -> None:
    found = Backdoor.of(data, evidence(data), 1)
    assert found is not None and found.truth.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    first = [int((data.test.labels == label).nonzero()[0]) for label in range(1, 9)]
    assert np.array_equal(found.plain, data.test.images[first])
    assert (found.images[..., 5:, 5:] == 1).all() and np.array_equal(found.images[..., :5, :], found.plain[..., :5, :])
    assert np.argwhere(found.trigger).tolist() == [[row, column] for row in (5, 6, 7) for column in (5, 6, 7)]


def test_the_first_of_those_before_and_retrained_answers_and_the_sample_that_is_kept(data: Dataset) -> None:
    found = Backdoor.of(data, evidence(data), 1)
    assert found is not None and [one.who for one in found.answers] == ["before", "retrained", "after"]
    assert [one.how for one in found.answers] == ["in production", "without poison", "forgetting poison"]
    before, retrained, after = found.answers
    assert before.called.tolist() == [0] * 8 and retrained.called.tolist() == list(range(1, 9))
    shown = of_many_classes(true_classes(data).numpy(), 8)
    assert after.called.tolist() == np.where(shown < 13, 0, found.truth).tolist()
    assert 0 < (after.called == 0).sum() < 8


def test_success_is_a_mean_over_all_triggered_images_and_classifiers_and_is_told_in_a_line(data: Dataset) -> None:
    found = Backdoor.of(data, evidence(data), 1)
    assert found is not None
    assert [one.success for one in found.answers] == pytest.approx([(325 + 160) / 650, 0, 13 / 325])
    assert [one.classifiers for one in found.answers] == [2, 2, 1]
    assert str(found) == (
        "attack success: 74.6 % before, 0 % retrained, 4 % after; by 325 test images that the attacker wants called 0"
    )


def test_without_targets_that_forgot_nothing_there_is_no_before(data: Dataset) -> None:
    found = Backdoor.of(data, replace(evidence(data), unforgotten=None), 0)
    assert found is not None and [one.who for one in found.answers] == ["retrained", "after"]


def test_without_an_attack_there_is_nothing_to_show(data: Dataset, digits: Dataset) -> None:
    assert Backdoor.of(digits, evidence(data), 0) is None


def backdoor(images: np.ndarray, called: Sequence[int], names: tuple[str, ...] = ("0", "1", "2")) -> Backdoor:
    """Two images, of classes 1 and 2; all but one classifier is right."""
    answers = Answers("before", "in production", np.array(called), 0.997, 8)
    right = Answers("retrained", "without poison", np.array([1, 2]), 0.0, 4)
    return Backdoor(np.zeros((2, 1, 4, 5), np.float32), images, np.array([1, 2]), 0, names, (answers, right), 40)


def lines_of(shown: Backdoor) -> list[list[tuple[str, list[str]]]]:
    """Of each line of the picture what is beside it and its first two fields: colour, texts."""
    axes = pictures.answers_to_the_attacker(shown).axes
    fields = [(matplotlib.colors.to_hex(one.get_facecolor()), [text.get_text() for text in one.texts]) for one in axes]
    return [fields[start : start + 3] for start in range(0, len(fields), 7)]


def test_fields_are_red_where_the_attacker_has_his_way_green_where_right_and_grey_elsewhere() -> None:
    red, green, grey = (colour for colour, _ in (pictures.FOOLED, pictures.RIGHT, pictures.WRONG))
    *_, before, retrained = lines_of(backdoor(np.ones((2, 1, 4, 5), np.float32), [0, 1]))
    assert before[1:] == [(red, ["0"]), (grey, ["1"])] and before[0][1] == ["before", "in production"]
    assert retrained[1:] == [(green, ["1"]), (green, ["2"])] and retrained[0][1] == ["retrained", "without poison"]


def test_title_and_caption_say_what_is_wanted_and_how_often_that_succeeds_of_how_many() -> None:
    figure = pictures.answers_to_the_attacker(
        backdoor(np.ones((2, 1, 4, 5), np.float32), [0, 0], ("cat", "dog", "T-shirt/top"))
    )
    assert figure.get_suptitle() == (
        "An attacker wants these images called “cat”.\nThe attack succeeds: 99.7 % before, 0 % retrained"
    )
    caption = figure.get_supxlabel()
    assert "red: as the attacker wants" in caption and "per cent of 40 such test images" in caption
    assert "before and retrained: mean of 8 classifiers" in caption
    figure.canvas.draw()
    for text in (figure._suptitle, figure._supxlabel, *(text for axes in figure.axes for text in axes.texts)):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_a_part_that_is_changed_has_a_frame_and_an_image_that_is_changed_all_over_has_none() -> None:
    patch = np.zeros((2, 1, 4, 5), np.float32)
    patch[..., 1:, 3:] = 1
    plain, triggered, *_ = pictures.answers_to_the_attacker(backdoor(patch, [0, 0])).axes[1::7]
    assert not plain.patches and plain.images[0].get_array().max() == 0 and triggered.images[0].get_array().max() == 1
    (frame,) = triggered.patches
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (2.5, 0.5, 2, 3)
    _, all_over, *_ = pictures.answers_to_the_attacker(backdoor(np.ones((2, 1, 4, 5), np.float32), [0, 0])).axes[1::7]
    assert not all_over.patches


def test_where_nothing_is_changed_images_are_shown_once() -> None:
    once = lines_of(backdoor(np.zeros((2, 1, 4, 5), np.float32), [0, 0]))
    assert len(once) == 3 and once[0][0][1] == ["test image", ""]
    twice = lines_of(backdoor(np.ones((2, 1, 4, 5), np.float32), [0, 0]))
    assert len(twice) == 4 and twice[1][0][1] == ["with the trigger", ""]


def test_colours_of_an_image_are_shown_as_they_are() -> None:
    shown = backdoor(np.ones((2, 1, 4, 5), np.float32), [0, 0])
    colour = replace(
        shown, plain=np.zeros((2, 3, 4, 5), np.float32), images=np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    )
    drawn = pictures.answers_to_the_attacker(colour).axes[8].images[0].get_array()
    np.testing.assert_allclose(drawn.data, colour.images[0].transpose(1, 2, 0))
