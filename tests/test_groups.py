"""The benchmark of groups that are no classes: what a union is called, and who is found among its members."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import by_hand
import pytest
import torch
from by_hand import measured

from benchmarks.groups import NEARLY, WHOLE, kind, membership
from hf_mlops import ForgetSpec, Groups
from hf_mlops.audit.measure import Measured

SHARDS = Groups(tuple("abcdef"), ((0, 1, 2, 3), (4,), (5,)), (False,) * 6)


@pytest.mark.parametrize(
    ("forgotten", "called"),
    [
        ("", "nothing"),
        ("a", "single"),
        ("e", "single"),
        ("a,b", "seen pair"),
        ("a,b,c", NEARLY),
        ("a,b,c,d", WHOLE),
        ("a,b,e", "larger set"),
    ],
)
def test_a_union_is_called_by_what_it_leaves_of_a_class(forgotten: str, called: str) -> None:
    reference = replace(by_hand.reference([("", "1 11 1111")]), groups=SHARDS)
    assert kind(ForgetSpec.parse(forgotten, SHARDS.names), reference) == called


def test_a_member_is_found_by_a_loss_below_those_of_test_images() -> None:
    """The last two images are training images of c; right answers have the lower loss."""
    apart = torch.tensor([False] * 5 + [True] * 2)

    def found(marks: str) -> float:
        one = measured("c", marks)
        return membership(
            Measured(one.spec, replace(one.outputs, groups=by_hand.groups_of("a bb bbcc"), apart=apart)), one.spec
        )

    assert found("0 00 0011") == 1 and found("1 11 1100") == 0 and found("1 11 1111") == 0.5


def test_where_d_f_is_judged_on_test_images_there_are_no_members_to_be_found() -> None:
    one = measured("c", "1 11 1010")
    assert isnan(membership(one, one.spec))
