from __future__ import annotations

from dataclasses import replace
from math import nan, sqrt

import pandas as pd
import pytest
import torch
from by_hand import RIGHT, WRONG, measured, reference, spec

from hf_mlops import Audit, ForgetSpec
from hf_mlops.audit.tables import KINDS, accuracy_per_group, kind_of, reference_summary, spec_table, summary

AUDITS = {
    # two images of D_f, five of D_r
    spec("b"): Audit(measured("b", "1 00 1111", "0 10 1110"), measured("a,b", "1 00 1110", "1 11 1000", "1 00 1110")),
    spec(""): Audit(measured("", "1 11 1000"), measured("", "1 11 1111")),
}
RETRAINED = reference(
    [
        ("b,c", "1 11 1000"),
        ("a", "0 11 1111"),
        ("a", "1 11 1100"),
        ("", "1 11 1111"),
        ("a,b", "0 00 1110"),
        ("b", "1 10 0000"),
    ],
    held_out=["a,b"],
)


def test_specs_are_told_apart_by_size_and_by_whether_a_pair_was_ever_forgotten_together() -> None:
    kinds = [kind_of(spec(text), RETRAINED) for text in ("", "a", "b,c", "a,b")]
    kinds.append(kind_of(replace(spec(""), groups=(0, 1, 2)), RETRAINED))
    assert tuple(kinds) == KINDS == ("nothing", "single", "seen pair", "held-out pair", "larger set")
    assert kind_of(spec("a,b"), replace(RETRAINED, held_out=RETRAINED.held_out[:0])) == "seen pair"


def test_the_table_of_specs_holds_means_worsts_and_spreads_of_samples_and_of_the_reference() -> None:
    table = spec_table(AUDITS, RETRAINED)
    assert len(table) == 2
    assert table.loc[0].to_dict() == pytest.approx(
        {
            "forget": "b",
            "kind": "single",
            "retain_accuracy": (1 + 3 / 5) / 2,
            "forget_accuracy": (0 + 1 / 2) / 2,
            "retain_loss": (8 * RIGHT + 2 * WRONG) / 10,
            "forget_loss": (RIGHT + 3 * WRONG) / 4,
            "reference_retain_accuracy": (4 / 5 + 2 / 5 + 4 / 5) / 3,
            "reference_forget_accuracy": (0 + 1 + 0) / 3,
            "reference_retain_loss": (2 * RIGHT + WRONG) / 3,
            "reference_forget_loss": (RIGHT + 2 * WRONG) / 3,
            "retain_accuracy_worst": 3 / 5,
            "retain_accuracy_spread": (1 - 3 / 5) / sqrt(2),
            "disagreement": 2 / 5,  # on a and on the last image of c
            "forget_accuracy_worst": 1 / 2,
            "reference_retain_accuracy_worst": 2 / 5,
            "reference_retain_accuracy_spread": sqrt(((2 / 15) ** 2 + (4 / 15) ** 2 + (2 / 15) ** 2) / 2),
            "reference_disagreement": (2 / 5 + 0 + 2 / 5) / 3,
            "reference_forget_accuracy_worst": 1,
        }
    )


def test_where_nothing_is_forgotten_or_one_is_alone_the_table_says_nothing() -> None:
    table = spec_table(AUDITS, RETRAINED)
    assert table.loc[1].to_dict() == pytest.approx(
        {
            "forget": "",
            "kind": "nothing",
            "retain_accuracy": 4 / 7,
            "retain_loss": (4 * RIGHT + 3 * WRONG) / 7,
            "reference_retain_accuracy": 1,
            "reference_retain_loss": RIGHT,
            "retain_accuracy_worst": 4 / 7,
            "reference_retain_accuracy_worst": 1,
            **dict.fromkeys((name for name in table if "forget_" in name or "spread" in name or "disagree" in name), nan),
        },
        nan_ok=True,
    )


def test_the_summary_of_a_reference_counts_targets_of_each_kind_and_their_accuracies() -> None:
    found = reference_summary(RETRAINED)
    assert found.columns.tolist() == ["kind", "targets", "retain accuracy", "worst", "forget accuracy"]
    assert found["kind"].tolist() == ["nothing", "single", "held-out pair", "seen pair"]  # as their specs come
    assert found["targets"].tolist() == [1, 3, 1, 1]
    assert found["retain accuracy"].tolist() == pytest.approx([1, (1 + 4 / 6 + 1 / 5) / 3, 3 / 4, 1])
    assert found["worst"].tolist() == pytest.approx([1, 1 / 5, 3 / 4, 1])
    assert found["forget accuracy"].tolist() == pytest.approx([nan, (0 + 1 + 1 / 2) / 3, 0, 3 / 6], nan_ok=True)


def row(kind: str, *figures: float) -> dict[str, object]:
    names = [
        f"{who}{what}"
        for what in ("retain_accuracy", "retain_accuracy_worst", "retain_accuracy_spread", "disagreement")
        for who in ("", "reference_")
    ]
    return {"kind": kind, **dict(zip(["forget_accuracy", "forget_accuracy_worst", *names], figures, strict=True))}


def test_the_summary_has_means_over_specs_and_worsts_over_all_samples_of_a_kind() -> None:
    table = pd.DataFrame(
        [
            row("single", 0.02, 0.10, 0.90, 0.95, 0.80, 0.85, 0.03, 0.01, 0.07, 0.05),
            row("larger set", 0.01, 0.02, 0.75, 0.875, 0.50, 0.75, 0.02, 0.04, 0.06, 0.08),
            row("nothing", nan, nan, 0.75, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.5),
            row("single", 0.04, 0.06, 0.92, 0.93, 0.70, 0.90, 0.05, 0.03, 0.09, 0.01),
        ]
    )
    found = summary(table)
    assert found["kind"].tolist() == ["nothing", "single", "larger set"]  # in the order of KINDS; others are absent
    assert found.loc[1].to_dict() == pytest.approx(
        {
            "kind": "single",
            "specs": 2,
            "forget accuracy": 0.03,
            "worst": 0.10,  # the highest that is left on D_f
            "retain accuracy": 0.91,
            "retrained": 0.94,
            "gap (points)": 3,  # retrained less sampled
            "worst sample": 0.70,
            "worst retrained": 0.85,
            "worst gap (points)": 20,  # of the second spec; over both together it would be 15
            "worst under mean (points)": 23,
            "spread": 0.04,
            "spread retrained": 0.02,
            "disagreement": 0.08,
            "disagreement retrained": 0.03,
        }
    )
    assert found.loc[2, ["specs", "gap (points)", "worst gap (points)"]].tolist() == [1, 12.5, 25]
    assert found.loc[0, ["specs", "gap (points)", "worst gap (points)"]].tolist() == [1, -25, -25]  # samples are better


def test_the_reference_judged_beside_itself_has_no_gap() -> None:
    audits = {one: Audit(RETRAINED.beside(one), RETRAINED.beside(one)) for one in RETRAINED.specs()}
    found = summary(spec_table(audits, RETRAINED)).set_index("kind")
    assert found["gap (points)"].tolist() == found["worst gap (points)"].tolist() == [0, 0, 0, 0]
    assert found["spread"].equals(found["spread retrained"])


def test_accuracy_per_group_is_the_mean_over_samples_and_over_retrained_targets() -> None:
    some: dict[ForgetSpec, Audit] = {spec("a"): Audit(measured("a", "1 10 1110"), measured("a", "0 11 1111")), **AUDITS}
    sampled, retrained = accuracy_per_group(some)
    expected = [[1, 1 / 2, 3 / 4], [1 / 2, 1 / 4, 7 / 8], [1, 1, 1 / 4]]
    torch.testing.assert_close(sampled, torch.tensor(expected))
    torch.testing.assert_close(retrained, torch.tensor([[0, 1, 1], [1, 1 / 3, 7 / 12], [1, 1, 1]]))
