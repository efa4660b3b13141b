from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mlops import ForgetSpec

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = ["T-shirt", "Trouser", "Ankle boot"]


@pytest.mark.parametrize(
    ("text", "groups"), [("7", (7,)), ("3,5", (3, 5)), (" 5 , 3 ", (3, 5)), ("7,7", (7,)), ("", ()), ("  ", ())]
)
def test_a_spec_is_read_as_the_set_of_its_groups(text: str, groups: tuple[int, ...]) -> None:
    assert ForgetSpec.parse(text, DIGITS).groups == groups


@pytest.mark.parametrize("text", ["ankle boot", "Ankle boot", "2"])
def test_a_group_goes_by_its_name_in_any_case_or_its_index(text: str) -> None:
    spec = ForgetSpec.parse(text, CLOTHES)
    assert spec.groups == (2,)
    assert str(spec) == "Ankle boot"
    assert spec.slug == "ankle-boot"


def test_a_name_wins_over_an_index() -> None:
    assert ForgetSpec.parse("0", ["1", "0"]).groups == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11", "unknown group '11'.*allowed: 0, 1,"),
        ("sneaker", "unknown group 'sneaker'"),
        ("7;8", "unknown group '7;8'.*joined by commas"),
        (",", "',' has an empty entry"),
        ("7,", "'7,' has an empty entry"),
        (",".join(DIGITS), "names every group"),
    ],
)
def test_a_bad_spec_is_refused_by_a_message_that_names_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForgetSpec.parse(text, DIGITS)


def test_an_empty_spec_is_refused_where_something_must_be_forgotten() -> None:
    with pytest.raises(ValueError, match="the forget spec is empty"):
        ForgetSpec.parse("", DIGITS, allow_empty=False)


def test_a_spec_that_is_not_text_is_refused() -> None:
    with pytest.raises(ValueError, match="got 7 of type int"):
        ForgetSpec.parse(7, DIGITS)  # type: ignore[arg-type]


def test_mask_and_slug_follow_the_groups() -> None:
    spec = ForgetSpec.parse("3,5", DIGITS)
    assert [g for g, forgotten in enumerate(spec.mask) if forgotten] == [3, 5]
    assert spec.slug == "3-5"


def _is_name(text: str) -> bool:
    return text == text.strip() != "" and "," not in text


NAMES = st.lists(st.text(max_size=8).filter(_is_name), min_size=2, max_size=12, unique_by=str.lower)


@given(names=NAMES, data=st.data())
def test_any_spec_is_read_again_from_what_it_is_written_as(names: list[str], data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=len(names) - 1))
    spec = ForgetSpec.of(groups, names)
    assert ForgetSpec.parse(str(spec), names) == spec
    shuffled = data.draw(st.permutations([*groups, *groups[:1]]))
    written = " , ".join(names[group] for group in shuffled)
    assert ForgetSpec.parse(written, names) == spec
    assert [group for group, forgotten in enumerate(spec.mask) if forgotten] == sorted(set(groups))


@given(text=st.text(max_size=20), names=NAMES)
def test_any_text_is_a_spec_of_groups_there_are_or_is_refused(text: str, names: list[str]) -> None:
    try:
        spec = ForgetSpec.parse(text, names)
    except ValueError:
        return
    assert set(spec.groups) < set(range(len(names)))
    assert bool(spec.groups) == bool(text.strip())


@given(names=NAMES, data=st.data())
def test_a_slug_has_the_letters_that_an_alias_may_have(names: list[str], data: st.DataObject) -> None:
    spec = ForgetSpec.of(data.draw(st.lists(st.integers(0, len(names) - 1))), names)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", spec.slug)
