from __future__ import annotations

import re
import unicodedata
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_mlops import ForgetSpec
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import LONGEST_SLUG, check_names, plain, slug_of, split_specs, visible

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = ["T-shirt", "Trouser", "Ankle boot"]


@pytest.mark.parametrize(
    ("text", "groups"),
    [("7", (7,)), ("3,5", (3, 5)), (" 5 , 3 ", (3, 5)), ("7,7", (7,)), ("", ()), ("  ", ()), ("#7,3", (3, 7))],
)
def test_a_spec_is_read_as_the_set_of_its_groups(text: str, groups: tuple[int, ...]) -> None:
    assert ForgetSpec.parse(text, DIGITS).groups == groups


@pytest.mark.parametrize("text", ["ankle boot", "Ankle boot", "#2"])
def test_a_group_goes_by_its_name_in_any_case_or_its_index_behind_a_sign(text: str) -> None:
    spec = ForgetSpec.parse(text, CLOTHES)
    assert spec.groups == (2,)
    assert str(spec) == "Ankle boot"
    assert spec.slug == "ankle_boot"


def test_a_name_is_the_same_however_unicode_writes_it() -> None:
    composed, apart = (unicodedata.normalize(form, "É") for form in ("NFC", "NFD"))
    assert composed != apart
    for name in (composed, apart):
        assert [ForgetSpec.parse(text, ["e", name]).groups for text in (composed, apart, composed.lower())] == [(1,)] * 3


@pytest.mark.parametrize(
    ("text", "names", "meant"),
    [
        ("7", [f"{number:03}" for number in range(1, 11)], "#7 is '008'"),
        ("1", ["2019", "2020", "2021"], "#1 is '2020'"),
        ("0", [str(number) for number in range(1, 11)], "#0 is '1'"),
        ("2", CLOTHES, "#2 is 'Ankle boot'"),
    ],
)
def test_a_number_that_is_no_name_is_refused_and_what_it_would_be_as_an_index_is_told(
    text: str, names: list[str], meant: str
) -> None:
    refusal = f"^unknown group '{text}' in the forget spec '{text}': no group has that name; {meant}; allowed: {names[0]}, "
    with pytest.raises(BadRequest, match=f"{refusal}.* or indices from 0, #0 to #{len(names) - 1}$"):
        ForgetSpec.parse(text, names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11", "unknown group '11' in the forget spec '11'; allowed: 0, 1,"),
        ("#10", "unknown group '#10'.* indices from 0, #0 to #9$"),
        ("#-1", "unknown group '#-1'"),
        ("sneaker", "unknown group 'sneaker'"),
        ("7;8", "unknown group '7;8'.*joined by commas"),
        (",", "',' has an empty entry"),
        ("7,", "'7,' has an empty entry"),
        (",".join(DIGITS), "names every group"),
    ],
)
def test_a_bad_spec_is_refused_by_a_message_that_names_it(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        ForgetSpec.parse(text, DIGITS)


def test_an_empty_spec_is_refused_where_something_must_be_forgotten() -> None:
    with pytest.raises(BadRequest, match="the forget spec is empty"):
        ForgetSpec.parse("", DIGITS, allow_empty=False)


def test_a_spec_that_is_not_text_is_refused() -> None:
    with pytest.raises(BadRequest, match="got 7 of type int"):
        ForgetSpec.parse(7, DIGITS)


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_of_no_group_is_refused(index: int) -> None:
    with pytest.raises(BadRequest, match=f"there is no group with the index {index}; allowed: 0 to 9"):
        ForgetSpec.of([3, index], DIGITS)


@pytest.mark.parametrize(
    ("text", "specs"),
    [("7", ["7"]), ("7|3,5 | 0", ["7", "3,5", "0"]), ("3,5", ["3,5"]), ("7||", ["7", "", ""]), ("", [""])],
)
def test_a_stroke_stands_between_the_specs_of_several_requests(text: str, specs: list[str]) -> None:
    assert split_specs(text, DIGITS) == specs


def test_where_a_group_has_a_stroke_in_its_name_text_is_one_spec() -> None:
    names = ["a|b", "a", "b", "c"]
    assert split_specs("A|b", names) == ["A|b"] and split_specs("c, a|b", names) == ["c, a|b"]
    assert split_specs("#1", names) == ["#1"]
    said = (
        "cannot be told apart where the name of a group, 'a|b', holds a |; allowed: one at a time. As one: unknown group 'a|c'"
    )
    with pytest.raises(BadRequest, match=re.escape(said)):
        split_specs("a|c", names)


def test_what_is_not_seen_is_shown_and_text_is_on_one_line() -> None:
    assert visible(" two\nlines,\ta tab  and \x1b[31m, \u202e\u2028 ") == "two lines, a tab  and \\x1b[31m, \\u202e"
    assert visible("Größe 猫 \u200d") == "Größe 猫 \u200d"


def test_mask_and_slug_follow_the_groups() -> None:
    spec = ForgetSpec.parse("3,5", DIGITS)
    assert [g for g, forgotten in enumerate(spec.mask) if forgotten] == [3, 5]
    assert spec.slug == "3-5"


@pytest.mark.parametrize(
    "name", ["", " ", "cat ", "\u3000cat", "cat,dog", "#7", "#007", "a\tb", "a\u202eb", "a\u2028b", "\udcff"]
)
def test_a_name_that_a_spec_could_not_hold_is_refused(name: str) -> None:
    for check in (check_names, lambda names: ForgetSpec.parse("cat", names)):
        with pytest.raises(BadRequest, match="is not allowed; allowed: text without a comma") as caught:
            check(["cat", name])
        assert str(caught.value).startswith(f"the group name {name!r}")


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "CAT"),
        ("Straße", "STRASSE"),
        ("Кот", "кот"),
        ("\xe9", "e\u0301"),
        ("K", "\u212a"),  # the sign of the unit kelvin
        ("α\u0301\u0345", "α\u0345\u0301"),  # lower case makes a letter of the accent U+0345
    ],
)
def test_names_that_are_the_same_in_lower_case_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(BadRequest, match=r"group names .* and .* are not told apart; allowed: names"):
        check_names(["another", *names])


def test_names_of_any_script_and_with_any_punctuation_are_allowed() -> None:
    check_names(["猫", "кот", "+", "-", "big cat", "big-cat", "1.5", "#", "#7a", "7#", "# 7", "کتاب\u200cها", "👩\u200d🔬"])


def slugs(*specs: tuple[str, ...]) -> list[str]:
    return [slug_of(spec) for spec in specs]


@pytest.mark.parametrize(
    ("specs", "slug"),
    [
        ([("red", "wine"), ("red wine",), ("red-wine",), ("red_wine",), ("redwine",)], "red-wine"),
        ([("1", "5"), ("1.5",), ("1-5",), ("1 5",), ("1_5",)], "1-5"),
        ([("ankle", "boot"), ("ankle boot",), ("ankle", "boot", "ankle boot"), ("ankle  boot",)], "ankle-boot"),
        ([("a-b", "c"), ("a", "b-c"), ("a", "b", "c"), ("a-b-c",), ("a b", "c"), ("a", "b c")], "a-b-c__97a167673beaf8e4"),
        ([("猫",), ("кот",), ("+",), ("-",), ("__",), ("",), ()], "__eccdf346afd720d8"),
        ([("nothing",), ()], "nothing"),
    ],
)
def test_requests_that_look_alike_have_slugs_of_their_own(specs: list[tuple[str, ...]], slug: str) -> None:
    assert slugs(*specs)[0] == slug
    assert len(set(slugs(*specs))) == len(specs)


def test_a_slug_does_not_depend_on_the_order_or_the_case_of_the_names() -> None:
    assert slugs(("Cat", "dog"), ("DOG", "cat"), (" dog ", "cat", "dog")) == ["cat-dog"] * 3
    assert len(set(slugs(("Größe", "!"), ("!", "GRÖSSE")))) == 1


def test_a_slug_of_many_names_is_as_short_as_any_and_says_how_it_begins() -> None:
    names = [f"class of number {number}" for number in range(60)]
    slug = slug_of(names)
    assert re.fullmatch("class-of-number-0-class-of-number-1-[a-z0-9-]{24}__[0-9a-f]{16}", slug)
    assert slug != slug_of(names[:-1])
    assert slugs(("a" * 100,)) == ["a" * 100] and len(slug_of(["a" * 101])) == 78
    assert slug_of([f"{'b' * 59} {'a' * 60}"]).startswith(f"{'b' * 59}__")


def _is_name(text: str) -> bool:
    return text == text.strip() != "" and "," not in text and not re.fullmatch("#[0-9]+", text)


SEEN = st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))
LETTERS = st.one_of(st.text("ab1-_. #Aß", max_size=5), st.text(SEEN, max_size=8))  # of few characters, so that they look alike
NAMES = st.lists(LETTERS.filter(_is_name), min_size=2, max_size=12, unique_by=plain)


@given(names=NAMES, data=st.data())
def test_any_spec_is_read_again_from_what_it_is_written_as(names: list[str], data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=len(names) - 1))
    spec = ForgetSpec.of(groups, names)
    assert ForgetSpec.parse(str(spec), names) == spec
    shuffled = data.draw(st.permutations([*groups, *groups[:1]]))
    for written in (" , ".join(names[group] for group in shuffled), ",".join(f"#{group}" for group in shuffled)):
        assert ForgetSpec.parse(written, names) == spec
    assert [group for group, forgotten in enumerate(spec.mask) if forgotten] == sorted(set(groups))


@given(text=st.text(max_size=20), names=NAMES)
def test_any_text_is_a_spec_of_groups_there_are_or_is_refused(text: str, names: list[str]) -> None:
    try:
        spec = ForgetSpec.parse(text, names)
    except BadRequest:
        return
    assert set(spec.groups) < set(range(len(names)))
    assert bool(spec.groups) == bool(text.strip())


@given(number=st.integers(0, 12), names=NAMES)
def test_a_number_is_a_name_or_refused(number: int, names: list[str]) -> None:
    assume(str(number) not in map(plain, names))
    with pytest.raises(BadRequest, match=f"unknown group '{number}'"):
        ForgetSpec.parse(str(number), names)


@given(names=NAMES, data=st.data())
def test_a_slug_has_the_letters_that_an_alias_may_have(names: list[str], data: st.DataObject) -> None:
    slug = ForgetSpec.of(data.draw(st.lists(st.integers(0, len(names) - 1))), names).slug
    assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*|([a-z0-9]+(-[a-z0-9]+)*)?__[0-9a-f]{16}", slug)
    assert len(slug) <= LONGEST_SLUG


@given(names=NAMES.map(lambda names: names[:5]))
def test_no_two_sets_of_groups_share_a_slug(names: list[str]) -> None:
    specs = [spec for size in range(len(names) + 1) for spec in combinations(range(len(names)), size)]
    assert len({ForgetSpec.of(spec, names).slug for spec in specs}) == len(specs)


@given(one=NAMES, other=NAMES)
def test_requests_of_two_data_sets_share_a_slug_only_if_they_name_the_same(one: list[str], other: list[str]) -> None:
    assert (slug_of(one) == slug_of(other)) == (set(map(plain, one)) == set(map(plain, other)))


def test_a_group_whose_name_begins_like_an_index_is_not_taken_for_one() -> None:
    with pytest.raises(BadRequest, match=r"unknown group 'x' in the forget spec 'x'; allowed: #x, y"):
        ForgetSpec.parse("x", ["#x", "y"])
