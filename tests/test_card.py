"""The model card says what the hypernetwork has shown, worked out by hand here, and fits into a store."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import by_hand
import pandas as pd
import pytest

from hf_mlops import Gates, HypernetConfig, PopulationConfig
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import spec_table
from hf_mlops.steps.card import model_card

GATES = Gates(max_forget_gap=0.03, max_retain_gap=0.04, max_forget_distance=0.6)


def a_hypernetwork(marks: dict[str, str], names: tuple[str, ...] = by_hand.NAMES) -> by_hand.ByHand:
    made = by_hand.ByHand(marks)
    made.config, made.groups = HypernetConfig(width=64), replace(by_hand.GROUPS, names=names)
    return made


@pytest.fixture
def card() -> str:
    hypernetwork, reference = a_hypernetwork({**by_hand.AS_RETRAINED, "b": "1 01 1110"}), by_hand.retrain_reference()
    specs = [by_hand.spec("a"), by_hand.spec("b")]
    audits = audit_specs(hypernetwork, reference, by_hand.dataset(), specs)
    return model_card(hypernetwork, reference, by_hand.dataset(), spec_table(audits, reference), GATES)


def test_its_figures_are_means_and_worsts_over_the_groups_that_were_judged(card: str) -> None:
    """Of a: all 6 of D_r right, none of D_f; of b: 4 of 5, and 1 of 2."""
    assert "| accuracy on D_f | 0.2500 | 0.5000 | b | 0.0000 | at most 0.03 over retrained ones, and chance |" in card
    assert "| accuracy on D_r | 0.9000 | 0.8000 | b | 1.0000 | at most 0.04 under retrained ones |" in card
    (line,) = (line for line in card.splitlines() if line.startswith("| answers on D_f"))
    *_, mean, worst, of, _, gate, _ = (cell.strip() for cell in line.split("|"))
    assert (
        (of, gate) == ("b", "at most 0.6") and 0 < float(worst) < 1 and float(mean) == pytest.approx(float(worst) / 2, abs=1e-4)
    )


def test_it_says_what_it_was_trained_on_and_what_it_still_knows(card: str) -> None:
    assert card.startswith("dihyfo-1 hypernetwork over the weights of `own_networks:linear` on by hand")
    assert f"weights of {PopulationConfig().runs} classifiers, {PopulationConfig().train_steps} steps each" in card
    assert "any union of 3 groups: a, b, c." in card and '"width": 64' in card
    assert "still knows what its samples have forgotten" in card


def test_what_was_not_measured_has_no_row_and_many_groups_are_cut_short() -> None:
    names = tuple(f"customer {index}" for index in range(1000))
    table = pd.DataFrame({"forget": ["a"], "retain_accuracy": [0.9], "reference_retain_accuracy": [0.8]})
    hypernetwork = a_hypernetwork({}, names)
    reference = SimpleNamespace(config=asdict(PopulationConfig()), held_out=[])
    card = model_card(hypernetwork, reference, by_hand.dataset(), table, GATES)  # type: ignore[arg-type]
    assert "D_f |" not in card and "| accuracy on D_r | 0.9000 | 0.9000 | a | 0.8000 |" in card
    assert "any union of 1000 groups: customer 0, customer 1, " in card and ", …." in card
    assert len(card) < 4000
