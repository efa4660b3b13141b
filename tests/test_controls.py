"""Controls by hand: three classes of two images each, and classifiers that answer alike to both images of a class."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import Tensor

from hf_mlops import Audit, ForgetSpec, Gates, Groups, Reference
from hf_mlops.audit.controls import CONTROLS, FINE_TUNED, HALF, MASKED, ORIGINAL, OVER, RETRAINED, control_table, controls
from hf_mlops.audit.measure import Measured
from hf_mlops.population.outputs import Outputs

NAMES = ("a", "b", "c")
KNOWS = {"a": (0.8, 0.15, 0.05), "b": (0.1, 0.8, 0.1), "c": (0.1, 0.1, 0.8)}  # an a looks more like a b than like a c
WITHOUT_A = {**KNOWS, "a": (0.01, 0.09, 0.9)}  # retrained without it, it is called c
WITHOUT_A_TOO = {**KNOWS, "a": (0.01, 0.19, 0.8)}
WITHOUT_A_AND_B = {"a": (0.01, 0.01, 0.98), "b": (0.01, 0.01, 0.98), "c": (0.01, 0.01, 0.98)}
RETRAINED_FOR = [
    *[("", KNOWS)] * 2,
    *[("a", WITHOUT_A)] * 2,
    ("a", WITHOUT_A_TOO),
    ("a,b", WITHOUT_A_AND_B),
    ("b", {**KNOWS, "b": (0.9, 0.05, 0.05)}),
]


def spec(text: str) -> ForgetSpec:
    return ForgetSpec.parse(text, NAMES)


def outputs(*classifiers: dict[str, tuple[float, float, float]]) -> Outputs:
    answers = torch.tensor([[one[name] for name in NAMES for _ in range(2)] for one in classifiers])
    labels = torch.arange(3).repeat_interleave(2)
    return Outputs.of(answers.log(), labels, labels, 3)


def reference(retrained: list[tuple[str, dict[str, tuple[float, float, float]]]]) -> Reference:
    forgotten = torch.tensor([spec(text).mask for text, _ in retrained])
    return Reference(
        Groups.of_classes(NAMES),
        forgotten,
        outputs(*(one for _, one in retrained)),
        torch.zeros(0, 2).long(),
        {},
    )


def divergence(wanted: tuple[float, ...], given: tuple[float, ...]) -> float:
    return sum(w * (torch.tensor(w).log() - torch.tensor(g).log()).item() for w, g in zip(wanted, given, strict=True))


def mean(*answers: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(sum(one) / len(answers) for one in zip(*answers, strict=True))


def test_masked_classifiers_share_out_what_they_would_give_to_what_is_forgotten() -> None:
    masked = reference(RETRAINED_FOR).unforgotten(spec("a"))
    assert masked is not None and len(masked.losses) == 2
    expected: Tensor = torch.tensor([[0, 0.75, 0.25], [0, 8 / 9, 1 / 9], [0, 1 / 9, 8 / 9]]).repeat_interleave(2, 0)
    torch.testing.assert_close(masked.answers, expected)


def test_nobody_is_unforgotten_where_nobody_forgot_nothing() -> None:
    assert reference(RETRAINED_FOR[2:]).unforgotten(spec("a")) is None


def test_only_a_class_of_which_nothing_would_be_left_is_masked() -> None:
    """Class 0 is in the groups a and b: who is to forget a alone still answers with it."""
    whole = replace(reference(RETRAINED_FOR), groups=Groups(NAMES, ((0, 1), (1,), (2,)), (True,) * 3))
    originals = whole.outputs.only(~whole.forgotten.any(1)).log_probabilities
    part, both = whole.unforgotten(spec("a")), whole.unforgotten(spec("a,b"))
    assert part is not None and torch.equal(part.outputs.log_probabilities, originals)
    assert both is not None and torch.equal(
        both.outputs.log_probabilities.isinf().any(0).any(0), torch.tensor([True, True, False])
    )
    assert MASKED not in {kind for kind, _ in controls(whole, spec("a"))}


def test_targets_that_forgot_a_part_of_a_spec_answer_without_the_classes_of_the_rest() -> None:
    part = reference([(forgot, answers) for forgot, answers in RETRAINED_FOR if forgot != "a,b"]).beside(spec("a,b"))
    assert str(part.spec) == "a" and part.accuracies[:, 1].max() == 0 and part.accuracies[:, 2].min() > 0


def test_a_distance_is_0_as_retrained_and_1_as_masked() -> None:
    whole = reference(RETRAINED_FOR)
    own, masked = whole.beside(spec("a")), whole.unforgotten(spec("a"))
    between = {**KNOWS, "a": (0.01, 0.59, 0.4)}
    figures = Audit(Measured(spec("a"), outputs(between)), own, masked).figures()
    all_three = mean(WITHOUT_A["a"], WITHOUT_A["a"], WITHOUT_A_TOO["a"])
    found, far = divergence(all_three, between["a"]), divergence(all_three, (1e-6, 0.75, 0.25))
    floor = divergence(WITHOUT_A["a"], WITHOUT_A_TOO["a"]) / 3
    floor += 2 / 3 * divergence(mean(WITHOUT_A["a"], WITHOUT_A_TOO["a"]), WITHOUT_A["a"])
    assert figures["forget_divergence"] == pytest.approx(found, abs=1e-6)
    assert figures["reference_forget_divergence"] == pytest.approx(floor, abs=1e-6)
    assert figures["unforgotten_forget_divergence"] == pytest.approx(far, abs=1e-6)
    assert figures["forget_distance"] == pytest.approx((found - floor) / (far - floor), abs=1e-5)
    assert Audit(own, own, masked).figures()["forget_distance"] == 0  # nearer than they are to each other
    assert masked is not None and Audit(masked, own, masked).figures()["forget_distance"] == pytest.approx(1)
    assert Audit(Measured(spec("a"), outputs(KNOWS)), own, masked).figures()["forget_distance"] == 1  # further than that


def test_a_distance_that_retrained_targets_themselves_exceed_is_none_and_fails() -> None:
    """They differ more from each other than a mask does from them: nothing can be told."""
    apart = [("a", {**KNOWS, "a": (0.01, 0.9, 0.09)}), ("a", {**KNOWS, "a": (0.01, 0.09, 0.9)})]
    whole = reference([("", KNOWS), *apart])
    audit = Audit(whole.beside(spec("a")), whole.beside(spec("a")), whole.unforgotten(spec("a")))
    assert isnan(audit.figures()["forget_distance"])
    assert audit.refused(Gates()) == {
        "max_forget_distance": "distance from retraining on D_f cannot be told, since classifiers that forgot nothing are"
        " hardly farther from retrained ones than these from each other; allowed: at most 0.5"
    }


def test_a_distance_is_told_only_beside_targets_of_the_very_spec() -> None:
    whole = reference(RETRAINED_FOR)
    part = Audit(Measured(spec("a,c"), outputs(WITHOUT_A)), whole.beside(spec("a,c")), whole.unforgotten(spec("a,c")))
    assert "forget_distance" not in part.figures() and "forget_divergence" not in part.figures()
    alone = Audit(Measured(spec("b"), outputs(KNOWS)), whole.beside(spec("b")), whole.unforgotten(spec("b")))
    assert "forget_divergence" not in alone.figures()  # one target says nothing of how far they are from each other


def test_every_control_of_a_spec_is_audited_beside_its_own_reference() -> None:
    found = list(controls(reference(RETRAINED_FOR), spec("a")))
    counts = {kind: sum(len(audit.sampled.losses) for name, audit in found if name == kind) for kind in CONTROLS}
    assert counts == {RETRAINED: 3, ORIGINAL: 2, MASKED: 2, HALF: 0, OVER: 1, FINE_TUNED: 0}
    for kind, audit in found:
        assert audit.reference.spec == audit.sampled.spec == spec("a")
        assert len(audit.reference.losses) == (2 if kind == RETRAINED else 3)
    first = found[0][1]
    torch.testing.assert_close(first.reference.outputs.log_probabilities, outputs(WITHOUT_A, WITHOUT_A_TOO).log_probabilities)


def test_half_of_a_spec_is_a_control_of_it_and_a_part_that_lacks_two_is_none() -> None:
    without_b = {**KNOWS, "b": (0.9, 0.05, 0.05)}
    found = controls(reference([*RETRAINED_FOR, *[("a,b", WITHOUT_A_AND_B)] * 2, ("b", without_b)]), spec("a,b"))
    assert sum(len(audit.sampled.losses) for kind, audit in found if kind == HALF) == 5  # three without a, two without b


def test_the_gates_judge_every_control_right_and_each_refuses_what_it_is_for() -> None:
    table = control_table(reference(RETRAINED_FOR), Gates()).set_index("control")
    assert table.index.tolist() == [RETRAINED, ORIGINAL, MASKED, OVER]
    assert table["classifiers"].tolist() == [3, 2, 2, 1]
    assert table["judged right"].tolist() == [1, 1, 1, 1]
    assert table["max_forget_gap"].tolist() == [0, 1, 0, 0]
    assert table["max_forget_distance"].tolist() == [0, 1, 1, 0]
    assert table["max_retain_gap"].tolist() == [0, 0, 0, 1]


def test_what_is_made_of_weights_is_judged_beside_the_same_reference_and_must_not_pass() -> None:
    """Of two that were fine-tuned, one answers as retrained ones do, and the gates cannot tell."""
    fine = outputs({**KNOWS, "a": (0.1, 0.8, 0.1)}, WITHOUT_A)
    table = control_table(
        reference(RETRAINED_FOR), Gates(), lambda asked: {"mine": Measured(asked, fine), FINE_TUNED: Measured(asked, fine)}
    ).set_index("control")
    assert table.index.tolist() == [RETRAINED, ORIGINAL, MASKED, OVER, FINE_TUNED, "mine"]
    assert table.loc[FINE_TUNED].tolist() == table.loc["mine"].tolist() == [2, 0.5, 0, 0, 0.5]


def test_without_the_distance_a_mask_passes() -> None:
    table = control_table(reference(RETRAINED_FOR), Gates(max_forget_distance=1.0)).set_index("control")
    assert table["judged right"].to_dict() == {RETRAINED: 1, ORIGINAL: 1, MASKED: 0, OVER: 1}


def test_where_nothing_can_be_judged_the_table_is_empty() -> None:
    table = control_table(reference(RETRAINED_FOR[:4]), Gates())
    assert len(table) == 0 and "judged right" in table.columns
