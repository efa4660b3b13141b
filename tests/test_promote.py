"""A challenger becomes champion if it passes its gates on the panel and is no worse than the champion; else it says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import by_hand
import mlflow
import pytest
from registering import DIGITS, a_champion, aliases, registered

from hf_mlops import Dataset, Gates, Reference
from hf_mlops.base.errors import BadRequest, GateFailure
from hf_mlops.registry.models import Champion, load_challenger, make_champion
from hf_mlops.registry.names import CHALLENGER, CHAMPION, STANDING
from hf_mlops.registry.versions import find_version
from hf_mlops.registry.withdrawal import withdraw
from hf_mlops.steps import promote
from hf_mlops.steps.promote import Promote, in_office

GATES = Gates(max_forget_gap=0.2, max_retain_gap=0.2, max_forget_distance=0.5)


def a_version(standing: str, marks: Mapping[str, str], reference: Reference | None = None) -> Champion:
    version = registered("hyperforget", standing, **DIGITS.tags, **{STANDING: standing})
    made: Any = by_hand.ByHand(marks)
    return replace(a_champion(), onnx=made, reference=reference or by_hand.retrain_reference(), version=version)


@pytest.fixture(autouse=True)
def in_torch_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made by hand is of torch already."""
    monkeypatch.setattr(promote, "in_torch", lambda one: (one.onnx, one.reference))


def promotion(
    challenger: Mapping[str, str], champion: Mapping[str, str] | None = by_hand.AS_RETRAINED, gates: Gates = GATES
) -> Promote:
    now = a_version(CHAMPION, champion) if champion is not None else None
    return Promote(a_version(CHALLENGER, challenger), now, by_hand.dataset(), gates)


def test_a_challenger_that_passes_is_champion_and_no_challenger_any_more(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run = promotion(by_hand.AS_RETRAINED).run()
    assert aliases("hyperforget") == {"champion": "2"}
    assert find_version("hyperforget/2").tags[STANDING] == CHAMPION
    said = capsys.readouterr().out
    assert "models:/hyperforget@champion is hyperforget/2 now; before: hyperforget/1" in said
    table = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/panel.csv").splitlines()
    assert [line.split(",")[0] for line in table] == ["forget", "a", "b", '"a']  # not that of nothing
    with pytest.raises(BadRequest, match="has no model models:/hyperforget@challenger"):
        load_challenger()


@pytest.mark.parametrize(
    ("spec", "marks", "reason"),
    [
        ("a", "0 11 1100", r"forget a: accuracy on D_r is 0\.6667; allowed: at least 0\.8000"),
        ("b", "1 11 1111", r"forget b: accuracy on D_f is 1\.0000; allowed: at most 0\.2000"),
        ("a,b", "0 00 1000", r"forget a,b: accuracy on D_r is 0\.2500; allowed: at least 0\.8000"),
    ],
)
def test_a_challenger_that_fails_a_gate_of_a_single_group_or_a_pair_stays_one(
    store: mlflow.MlflowClient, spec: str, marks: str, reason: str
) -> None:
    with pytest.raises(GateFailure, match=rf"hyperforget/2 was not made champion, hyperforget/1 stays it:\n  {reason}"):
        promotion({**by_hand.AS_RETRAINED, spec: marks}).run()
    assert aliases("hyperforget") == {"champion": "1", "challenger": "2"}
    assert find_version("hyperforget/2").tags[STANDING] == CHALLENGER


def test_a_challenger_that_passes_its_gates_and_is_worse_than_the_champion_is_refused(store: mlflow.MlflowClient) -> None:
    """Without a it keeps 5 of 6 images, as those retrained beside it; the champion keeps all."""
    weaker = {**by_hand.RETRAINED, "a": "0 11 1110"}
    challenger = a_version(CHALLENGER, {**by_hand.AS_RETRAINED, "a": weaker["a"]}, by_hand.retrain_reference(weaker))
    champion = a_version(CHAMPION, by_hand.AS_RETRAINED)
    asked = Promote(challenger, champion, by_hand.dataset(), replace(GATES, max_retain_gap=0.15))
    worse = r"forget a: accuracy on D_r is 0\.8333, the champion's 1\.0000; allowed: at most 0\.15 worse$"
    with pytest.raises(GateFailure, match=worse):
        asked.run()
    replace(asked, gates=replace(GATES, max_retain_gap=0.17)).run()
    assert aliases("hyperforget") == {"champion": "1"}


@pytest.mark.parametrize(("marks", "passes"), [("0 11 1100", True), ("0 11 1110", True), ("0 11 1000", False)])
def test_what_the_champion_fails_by_as_much_is_no_reason_against_a_challenger(
    store: mlflow.MlflowClient, marks: str, passes: bool
) -> None:
    """The champion keeps 4 of 6 images without a, where 0.8 are asked for."""
    asked = promotion({**by_hand.AS_RETRAINED, "a": marks}, {**by_hand.AS_RETRAINED, "a": "0 11 1100"})
    if passes:
        asked.run()
    else:
        with pytest.raises(GateFailure, match=r"forget a: accuracy on D_r is 0\.5000; allowed: at least"):
            asked.run()
    assert aliases("hyperforget")[CHAMPION] == ("2" if passes else "1")


def test_a_gate_that_the_champion_passes_counts_though_its_figure_is_no_better(store: mlflow.MlflowClient) -> None:
    """Both keep 5 of 6 images without a, as those retrained beside the champion do; those beside the challenger keep all."""
    weaker = {**by_hand.RETRAINED, "a": "0 11 1110"}
    marks = {**by_hand.AS_RETRAINED, "a": weaker["a"]}
    champion, challenger = a_version(CHAMPION, marks, by_hand.retrain_reference(weaker)), a_version(CHALLENGER, marks)
    with pytest.raises(GateFailure, match=r"forget a: accuracy on D_r is 0\.8333; allowed: at least 0\.8500"):
        Promote(challenger, champion, by_hand.dataset(), replace(GATES, max_retain_gap=0.15)).run()


def test_each_is_judged_beside_its_own_retrained_classifiers_and_what_is_compared_are_accuracies(
    store: mlflow.MlflowClient,
) -> None:
    """Without b those of one initialisation still know the second of its images, those of the other the first."""
    second, first = {"b": "1 01 1111"}, {"b": "1 10 1111"}
    champion = a_version(
        CHAMPION, {**by_hand.AS_RETRAINED, **second}, by_hand.retrain_reference({**by_hand.RETRAINED, **second})
    )
    own = by_hand.retrain_reference({**by_hand.RETRAINED, **first})
    Promote(a_version(CHALLENGER, {**by_hand.AS_RETRAINED, **first}, own), champion, by_hand.dataset(), GATES).run()
    assert aliases("hyperforget") == {"champion": "2"}


def test_retrained_classifiers_of_its_own_that_are_bad_do_not_make_a_challenger_good(store: mlflow.MlflowClient) -> None:
    bad = {"a": "0 11 1000"}
    lenient = by_hand.retrain_reference({**by_hand.RETRAINED, **bad})
    champion = a_version(CHAMPION, by_hand.AS_RETRAINED)
    challenger = a_version(CHALLENGER, {**by_hand.AS_RETRAINED, **bad}, lenient)
    worse = r"forget a: accuracy on D_r is 0\.5000, the champion's 1\.0000; allowed: at most 0\.2 worse$"
    with pytest.raises(GateFailure, match=worse):
        Promote(challenger, champion, by_hand.dataset(), GATES).run()
    Promote(challenger, None, by_hand.dataset(), GATES).run()
    assert aliases("hyperforget") == {"champion": "2"}


def test_a_champion_of_other_data_is_not_compared_with(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    challenger = a_version(CHALLENGER, by_hand.AS_RETRAINED)
    assert in_office(challenger) is None
    champion = a_version(CHAMPION, by_hand.AS_RETRAINED)
    monkeypatch.setattr(promote, "load_hypernetwork", lambda version: replace(champion, version=version))
    found = in_office(challenger)
    assert found is not None and str(found) == "hyperforget/2" and not capsys.readouterr().out
    champion.onnx.made_from = {"name": "digits", "digest": "grown", "grouping": ""}
    assert in_office(challenger) is None
    assert "hyperforget/2 was trained on other data" in capsys.readouterr().out


def test_what_was_withdrawn_while_it_was_measured_is_not_made_champion(store: mlflow.MlflowClient) -> None:
    asked = promotion(by_hand.AS_RETRAINED)
    withdraw(asked.challenger.version, "poisoned")
    with pytest.raises(BadRequest, match=r"hyperforget/2 was withdrawn at .*, because: poisoned"):
        asked.run()
    assert aliases("hyperforget") == {"champion": "1"}


def test_a_newer_challenger_keeps_its_alias_when_an_older_one_becomes_champion(store: mlflow.MlflowClient) -> None:
    older = registered("hyperforget", CHALLENGER, **DIGITS.tags)
    registered("hyperforget", CHALLENGER, **DIGITS.tags)
    make_champion(older)
    assert aliases("hyperforget") == {"champion": "1", "challenger": "2"}


def test_every_input_of_promote_counts(digits: Dataset) -> None:
    step = Promote(a_champion(), a_champion("r2"), digits, Gates())
    others = [
        replace(step, challenger=a_champion("r3")),
        replace(step, champion=a_champion("r3")),
        replace(step, champion=None),
        replace(step, dataset=replace(digits, class_names=tuple("abcdefghij"))),
        replace(step, gates=Gates(max_retain_gap=0.5)),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 6
