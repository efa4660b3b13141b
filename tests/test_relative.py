"""The relative test by hand-made rows, and on classifiers of three classes that answer alike to both images of a class."""

from __future__ import annotations

from math import isnan

import pytest
import torch
from torch import Tensor

from hf_mlops import ForgetSpec, Groups, Reference
from hf_mlops.audit.controls import CONTROLS, HALF, MASKED, ORIGINAL, OVER, RETRAINED
from hf_mlops.audit.relative import LEVEL, against_all, alternatives, answers, relative_test
from hf_mlops.base.errors import BadRequest
from hf_mlops.population.outputs import Outputs

NAMES = ("a", "b", "c", "d")
KNOWS = {"a": (0.8, 0.15, 0.03, 0.02), "b": (0.1, 0.8, 0.05, 0.05), "c": (0.1, 0.1, 0.7, 0.1), "d": (0.05, 0.05, 0.1, 0.8)}
INSTEAD = {"a": (0.001, 0.1, 0.1, 0.799), "b": (0.1, 0.001, 0.8, 0.099)}  # what those say who never saw a, or b


def spec(text: str) -> ForgetSpec:
    return ForgetSpec.parse(text, NAMES)


def normal(seed: int, shift: float, rows: int = 20) -> Tensor:
    values = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    values[:, 0] += shift
    return values


def classifiers(forgot: str, count: int, seed: int) -> Outputs:
    """Classifiers retrained without some of the classes a and b; each answers a little differently."""
    known = [INSTEAD[name] if name in forgot.split(",") else KNOWS[name] for name in NAMES for _ in range(2)]
    noise = 0.2 * torch.randn(count, 8, 4, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(4).repeat_interleave(2)
    return Outputs.of((torch.tensor(known).log() + noise).log_softmax(-1), labels, labels, 4)


def reference(seed: int, forgot: tuple[str, ...] = ("", "a", "b", "a,b")) -> Reference:
    outputs = [classifiers(one, 8, 10 * seed + number) for number, one in enumerate(forgot)]
    everything = Outputs.of(torch.cat([one.log_probabilities for one in outputs]), outputs[0].labels, outputs[0].groups, 4)
    forgotten = torch.tensor([spec(one).mask for one in forgot for _ in range(8)])
    return Reference(Groups.of_classes(NAMES), forgotten, everything, torch.zeros(0, 2).long(), {})


def test_the_difference_is_that_of_two_unbiased_discrepancies() -> None:
    judged, retrained, others = normal(0, 0, 5), normal(1, 0.5, 6), normal(2, 1, 7)
    everything = torch.cat([judged, retrained, others]).double()
    distances = torch.stack(
        [(one - other).norm() for i, one in enumerate(everything) for j, other in enumerate(everything) if i != j]
    )

    def similar(some: Tensor, to: Tensor) -> float:
        """Mean kernel of two rows, one of each, and of two different ones where both are of the same."""
        width = distances.median()
        pairs = [(one, other) for one in some.double() for other in to.double() if some is not to or one is not other]
        pairs = [(one, other) for one, other in pairs if not torch.equal(one, other)]
        return sum(float((-((one - other).norm() ** 2) / (2 * width**2)).exp()) for one, other in pairs) / len(pairs)

    def discrepancy(some: Tensor, to: Tensor) -> float:
        return similar(some, some) + similar(to, to) - 2 * similar(some, to)

    wanted = discrepancy(judged, retrained) - discrepancy(judged, others)
    assert relative_test(judged, retrained, others).difference == pytest.approx(wanted, abs=1e-9)


def test_the_deviation_is_that_of_differences_of_sets_drawn_anew() -> None:
    tests = [relative_test(normal(3 * i, 0.3, 16), normal(3 * i + 1, 0, 24), normal(3 * i + 2, 1, 12)) for i in range(300)]
    spread = torch.tensor([one.difference for one in tests]).std().item()
    assert torch.tensor([one.deviation for one in tests]).mean().item() == pytest.approx(spread, rel=0.15)


def test_sets_are_called_nearer_to_what_they_are_drawn_like() -> None:
    near, far = (relative_test(normal(0, shift), normal(1, 0), normal(2, 3)) for shift in (0.0, 3.0))
    assert near.nearer and near.p_value < 1e-4 and not far.nearer and far.p_value > 1 - 1e-4
    turned = relative_test(normal(0, 0), normal(2, 3), normal(1, 0))
    assert turned.p_value == pytest.approx(1 - near.p_value) and turned.difference == pytest.approx(-near.difference)


def test_sets_half_way_are_seldom_called_nearer() -> None:
    called = [
        relative_test(
            torch.cat([normal(4 * i, 0, 4), normal(4 * i + 1, 2, 4)]), normal(4 * i + 2, 0, 8), normal(4 * i + 3, 2, 8)
        )
        for i in range(300)
    ]
    share = sum(one.nearer for one in called) / len(called)
    assert share <= LEVEL + 0.02


def test_what_cannot_be_told_is_not_called_nearer() -> None:
    alike = torch.ones(4, 3)
    found = relative_test(alike, alike, alike)
    assert isnan(found.p_value) and not found.nearer


@pytest.mark.parametrize("rows", [normal(0, 0, 3), normal(0, torch.inf, 4)])
def test_too_few_or_infinite_rows_are_refused(rows: Tensor) -> None:
    with pytest.raises(BadRequest, match="and 5 other rows cannot be compared; allowed: at least 4 of each, all finite"):
        relative_test(normal(1, 0, 6), rows, normal(2, 0, 5))


def test_distances_are_hellinger_distances_and_both_sets_count_alike() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    first = torch.tensor([[0.5, 0.5], [1, 0], [1, 0], [1, 0]])
    second = torch.tensor([[0.5, 0.5], [0, 1], [1, 0], [1, 0]])  # one of three images of b, answered otherwise
    third = torch.tensor([[0, 1], [1, 0], [1, 0], [1, 0]])  # the one image of a
    outputs = Outputs.of(torch.stack([first, second, third]).log(), labels, labels, 2)
    rows = answers(outputs, ForgetSpec.parse("a", ("a", "b")))
    assert (rows[0] - rows[1]).square().sum().item() == pytest.approx(2 / 3)
    assert (rows[0] - rows[2]).square().sum().item() == pytest.approx(0.5 + (1 - 0.5**0.5) ** 2)


def test_a_spec_without_images_to_forget_is_refused() -> None:
    with pytest.raises(BadRequest, match="forgetting nothing leaves no image in D_f or in D_r"):
        answers(classifiers("", 4, 0), spec(""))


def test_alternatives_are_the_controls_that_have_not_rightly_forgotten() -> None:
    of_pair, of_one = alternatives(reference(1), spec("a,b")), alternatives(reference(1), spec("a"))
    assert {kind: len(some) for kind, some in of_pair.items()} == {MASKED: 1, ORIGINAL: 1, HALF: 2}
    assert {kind: len(some) for kind, some in of_one.items()} == {MASKED: 1, ORIGINAL: 1, OVER: 1}
    assert alternatives(reference(1), spec("a,c")) == {}  # nothing was retrained for it


@pytest.mark.parametrize("asked", ["a", "a,b"])
def test_retrained_classifiers_alone_are_nearer_to_retrained_ones_than_to_every_control(asked: str) -> None:
    known, fresh = reference(1), reference(2)
    retrained, others = answers(known.beside(spec(asked)).outputs, spec(asked)), alternatives(known, spec(asked))
    judged = {**alternatives(fresh, spec(asked)), RETRAINED: [answers(fresh.beside(spec(asked)).outputs, spec(asked))]}
    assert len(judged) == 4 and set(judged) <= set(CONTROLS)
    for kind, several in judged.items():
        for one in several:
            tests = against_all(one, retrained, others)
            nearer = all(test.nearer for some in tests.values() for test in some)
            assert nearer == (kind == RETRAINED)
            assert kind == RETRAINED or not all(test.nearer for test in tests[kind])  # nearer to its like


def test_a_mask_is_nearer_than_the_original_so_that_the_original_alone_is_no_judge() -> None:
    known, fresh = reference(1), reference(2)
    (mask,) = alternatives(fresh, spec("a"))[MASKED]
    tests = against_all(mask, answers(known.beside(spec("a")).outputs, spec("a")), alternatives(known, spec("a")))
    assert tests[ORIGINAL][0].nearer and not tests[MASKED][0].nearer
