from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hf_mlops import Dataset, ForgetSpec, Hypernetwork, Reference
from hf_mlops.audit.sweeps import audit_specs, prompt_alignment, prompt_sweep, step_sweep


def sweep_of(**columns: list[float]) -> pd.DataFrame:
    """From log losses, whose floor is 0.001."""
    return pd.DataFrame({f"{name}_loss": np.exp(logs) - 0.001 for name, logs in columns.items()})


def test_alignment_is_the_share_of_the_variance_of_log_losses_that_prompts_explain() -> None:
    sweep = sweep_of(
        prompted_retain=[-2, 0, 2],
        observed_retain=[-2, 0, 5],  # mean 1: 9 + 1 + 16 = 26 in all, 9 missed
        prompted_forget=[1, 2, 3],
        observed_forget=[2, 2, 5],  # mean 3: 1 + 1 + 4 = 6 in all, 1 + 4 missed
    )
    # over both: the mean is 2, 16 + 4 + 9 + 0 + 0 + 9 = 38 in all, 14 missed
    assert prompt_alignment(sweep) == pytest.approx({"retain": 1 - 9 / 26, "forget": 1 - 5 / 6, "both": 1 - 14 / 38})


def test_alignment_is_1_for_samples_that_obey_and_below_0_for_those_that_do_the_opposite() -> None:
    asked = [-2.0, 0.0, 2.0]
    obeying = sweep_of(prompted_retain=asked, observed_retain=asked, prompted_forget=asked, observed_forget=asked)
    assert prompt_alignment(obeying) == pytest.approx({"retain": 1, "forget": 1, "both": 1})
    defying = sweep_of(prompted_retain=asked, observed_retain=asked[::-1], prompted_forget=asked, observed_forget=asked)
    assert prompt_alignment(defying)["retain"] == pytest.approx(-3)


def test_a_loss_of_0_counts_and_samples_without_a_forget_set_count_by_what_they_keep() -> None:
    sweep = sweep_of(prompted_forget=[np.nan, 1, 2], observed_forget=[np.nan, 2, 4])  # mean 3: 2 in all, 1 + 4 missed
    sweep["prompted_retain_loss"] = sweep["observed_retain_loss"] = [0.0, np.e - 0.001, np.e - 0.001]
    lowest = np.log(0.001)
    total = lowest**2 + 1 + 1 + 2**2 + 4**2 - (lowest + 1 + 1 + 2 + 4) ** 2 / 5
    assert prompt_alignment(sweep) == pytest.approx({"retain": 1, "forget": 1 - 5 / 2, "both": 1 - 5 / total})


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
