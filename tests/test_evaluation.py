from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hf_mlops import Dataset, ForgetSpec, Hypernetwork, Reference
from hf_mlops.audit.tables import (
    HELD_OUT_PAIR,
    KINDS,
    SEEN_PAIR,
    accuracy_per_group,
    audit_specs,
    kind_of,
    prompt_alignment,
    prompt_sweep,
    reference_summary,
    spec_table,
    step_sweep,
    summary,
)
from hf_mlops.report import pictures


@pytest.fixture(scope="module")
def singles(reference: Reference) -> list[ForgetSpec]:
    return [spec for spec in reference.specs() if len(spec.groups) == 1]


def test_pairs_never_trained_together_are_told_apart(reference: Reference) -> None:
    kinds = pd.Series([kind_of(spec, reference) for spec in reference.specs()]).value_counts()
    assert set(kinds.index) == set(KINDS)
    assert (kinds[HELD_OUT_PAIR], kinds[SEEN_PAIR]) == (9, 36)


def test_the_table_holds_samples_beside_the_reference(
    hypernetwork: Hypernetwork, reference: Reference, digits: Dataset, singles: list[ForgetSpec]
) -> None:
    audits = audit_specs(hypernetwork, reference, digits, singles[:3], n=4)
    table = spec_table(audits, reference)
    assert list(table["forget"]) == ["0", "1", "2"]
    first = audits[singles[0]]
    retain, _ = first.sampled.on_sets(first.sampled.accuracies)
    assert table["retain_accuracy"][0] == pytest.approx(retain.mean().item())
    assert table["retain_accuracy_worst"][0] == pytest.approx(retain.min().item())
    row = summary(table).iloc[0]
    assert row["specs"] == 3
    gap = 100 * (table["reference_retain_accuracy"].mean() - table["retain_accuracy"].mean())
    assert row["gap (points)"] == pytest.approx(gap)


def test_the_reference_judged_against_itself_has_no_gap(reference: Reference, singles: list[ForgetSpec]) -> None:
    from hf_mlops import Audit

    audits = {spec: Audit(reference.closest(spec), reference.closest(spec)) for spec in singles}
    row = summary(spec_table(audits, reference)).iloc[0]
    assert row["gap (points)"] == row["worst gap (points)"] == row["forget accuracy"] == 0
    table = reference_summary(reference).set_index("kind")["targets"]
    assert table[list(KINDS[:4])].tolist() == [2, 20, 72, 18]
    assert table.sum() == len(reference.forgotten)


def test_alignment_is_1_for_samples_that_obey_and_falls_for_those_that_do_not() -> None:
    asked = np.geomspace(0.1, 1, 20)
    sweep = pd.DataFrame({"prompted_retain_loss": asked, "prompted_forget_loss": 10 * asked})
    sweep["observed_retain_loss"], sweep["observed_forget_loss"] = asked, 10 * asked
    assert prompt_alignment(sweep) == pytest.approx({"retain": 1, "forget": 1, "both": 1})
    sweep["observed_retain_loss"] = asked[::-1]
    worse = prompt_alignment(sweep)
    assert worse["retain"] < 0 and worse["both"] < 1


def test_a_prompt_sweep_asks_for_losses_and_says_what_came(hypernetwork: Hypernetwork, digits: Dataset) -> None:
    spec = ForgetSpec.parse("7", digits.groups.names)
    sweep = prompt_sweep(hypernetwork, digits, [spec], n=2)
    assert sweep["asked"].tolist() == ["retain_loss"] * 12 + ["forget_loss"] * 12
    for part, name in ((sweep[:12], "retain_loss"), (sweep[12:], "forget_loss")):
        assert part[f"prompted_{name}"].is_monotonic_increasing
        assert part[[f"prompted_{name}", f"observed_{name}"]].corr().iloc[0, 1] > 0.8


def test_pictures_hold_what_they_are_given(
    hypernetwork: Hypernetwork,
    reference: Reference,
    digits: Dataset,
    singles: list[ForgetSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hf_mlops.audit.tables.STEPS_SWEPT", (1, 3))
    steps = step_sweep(hypernetwork, reference, digits, singles[:2], n=2)
    assert list(steps["steps"]) == [1, 3]
    curves = pictures.accuracy_over_steps(steps).axes[0].lines
    np.testing.assert_allclose(curves[0].get_ydata(), steps["retain_accuracy"])
    audits = audit_specs(hypernetwork, reference, digits, singles[:2], n=2)
    sampled, retrained = accuracy_per_group(audits)
    heat_map = pictures.accuracy_heat_map(sampled, retrained, ["0", "1"], digits.groups.names)
    np.testing.assert_allclose(heat_map.axes[0].images[0].get_array(), sampled)
    np.testing.assert_allclose(heat_map.axes[1].images[0].get_array(), retrained)
    sweep = prompt_sweep(hypernetwork, digits, singles[:1], n=1)
    dots = pictures.prompted_against_observed(sweep, prompt_alignment(sweep)).axes[0].collections
    shown = np.concatenate([part.get_offsets()[:, 1] for part in dots])
    np.testing.assert_allclose(shown, sweep["observed_retain_loss"])


def test_a_reference_without_held_out_pairs_has_only_seen_ones(reference: Reference) -> None:
    none = replace(reference, held_out=reference.held_out[:0])
    assert HELD_OUT_PAIR not in {kind_of(spec, none) for spec in none.specs()}
