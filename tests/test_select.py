from __future__ import annotations

from dataclasses import replace
from math import inf, log, nan

import by_hand
import pytest
from by_hand import RIGHT, WRONG, measured
from torch import zeros

from hf_mlops import best_fit
from hf_mlops.audit.measure import measure
from hf_mlops.audit.select import misfits
from hf_mlops.base.errors import GateFailure
from hf_mlops.serving.prompts import Prompt

FAR = log((WRONG + 0.001) / (RIGHT + 0.001))  # between the losses of what is wrong and of what is right


def prompt(retain_loss: float, forget_loss: float) -> Prompt:
    return Prompt(zeros(3), retain_loss, forget_loss)


def test_the_misfit_is_the_sum_of_squared_differences_of_log_losses_on_both_sets() -> None:
    four = measured("b", "1 00 1111", "1 11 1111", "0 00 0000", "0 11 0000")
    assert misfits(four, prompt(RIGHT, WRONG)).tolist() == pytest.approx([0, FAR**2, FAR**2, 2 * FAR**2], abs=1e-6)
    beyond = log(1.001) - log(RIGHT + 0.001), log(2.001) - log(WRONG + 0.001)
    assert misfits(four, prompt(1.0, 2.0))[0].item() == pytest.approx(beyond[0] ** 2 + beyond[1] ** 2, rel=1e-5)


def test_where_nothing_is_forgotten_only_what_is_kept_counts() -> None:
    two = measured("", "1 11 1111", "0 00 0000")
    assert misfits(two, prompt(RIGHT, nan)).tolist() == pytest.approx([0, FAR**2], abs=1e-6)


def test_a_sample_without_finite_losses_is_infinitely_far_off_and_never_kept() -> None:
    data, network = by_hand.dataset(), by_hand.target()
    drawn = by_hand.samples("b", WRONG, RIGHT, "0 00 0000", "0 11 1000", "1 00 1111")
    broken = drawn.weights.clone()
    broken[0] = nan
    broken[2, 3] = inf
    kept = replace(drawn, weights=broken)
    distances = misfits(measure(network, broken, drawn.spec, data.validation), drawn.prompt)
    assert distances.isinf().tolist() == [True, False, True]
    assert best_fit(network, kept, data) == 1
    nothing = replace(by_hand.samples("", WRONG, nan, "0 00 0000", "0 11 1000", "1 00 1111"), weights=broken)
    assert best_fit(network, nothing, data) == 1


def test_where_no_sample_has_finite_losses_none_is_kept() -> None:
    drawn = by_hand.samples("b", WRONG, RIGHT, "0 00 0000", "0 11 1000")
    with pytest.raises(GateFailure, match="none of the 2 candidates can be kept: their losses on validation are not finite"):
        best_fit(by_hand.target(), replace(drawn, weights=drawn.weights * nan), by_hand.dataset())


def test_the_sample_that_fits_its_prompt_best_on_validation_images_is_kept() -> None:
    """All that is right about the test images is wrong about the validation images."""
    marks = "1 00 1111", "0 11 1000", "0 11 0000", "1 11 1111"
    data, network = by_hand.dataset(), by_hand.target()
    assert best_fit(network, by_hand.samples("b", RIGHT, WRONG, *marks), data) == 2
    assert best_fit(network, by_hand.samples("b", WRONG, RIGHT, *marks), data) == 0
    assert best_fit(network, by_hand.samples("b", WRONG, WRONG, *marks), data) == 3
    assert best_fit(network, by_hand.samples("", WRONG, nan, *marks), data) == 3
