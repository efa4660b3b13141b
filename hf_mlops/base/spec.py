"""The forget spec: which groups a request asks to forget. Nothing else in the system parses one."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hf_mlops.base.errors import BadRequest

LONGEST_SLUG, READABLE = 100, 60  # characters; of the part before a digest

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories of controls, formats, halves of a character, ends of a line
JOINERS = "\u200c\u200d"  # formats that Persian, Hindi and emoji are written with

BETWEEN = "|"  # the specs of several requests


@dataclass(frozen=True)
class ForgetSpec:
    """A parsed forget spec.

    Args:
        groups: indices of the groups in D_f, ascending and without repetition; empty for "forget nothing".
        group_names: names of all the groups there are.

    Raises:
        BadRequest: an index of no group.
    """

    groups: tuple[int, ...]
    group_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if odd := [group for group in self.groups if not 0 <= group < len(self.group_names)]:
            raise BadRequest(f"there is no group with the index {odd[0]}; allowed: 0 to {len(self.group_names) - 1}")

    @classmethod
    def of(cls, groups: Sequence[int], group_names: Sequence[str]) -> ForgetSpec:
        """The spec that forgets the groups with these indices."""
        return cls(tuple(sorted(set(groups))), tuple(group_names))

    @classmethod
    def parse(cls, text: object, group_names: Sequence[str], allow_empty: bool = True) -> ForgetSpec:
        """Reads `"7"`, `"3,5"`, `"Sneaker"`, `"#7"` or `""` (forget nothing).

        An entry is a group's name, upper or lower case alike, or its index behind `#`: of ten groups the last is `#9`. A number
        alone is a name or nothing: where groups are called `1` to `10`, `0` is refused.

        Raises:
            BadRequest: anything but text; an unknown group, an empty entry, every group at once, or, unless `allow_empty`, no
                group; groups whose names `check_names` refuses.
        """
        known = _entries(tuple(group_names))
        last = f"#{len(group_names) - 1}"
        allowed = f"allowed: {', '.join(group_names)}, several joined by commas, or indices from 0, #0 to {last}"
        if not isinstance(text, str):
            raise BadRequest(f"a forget spec is text, got {text!r} of type {type(text).__name__}; {allowed}")
        if not text.strip():
            if allow_empty:
                return cls((), tuple(group_names))
            raise BadRequest(f"the forget spec is empty: name at least one group; {allowed}")
        groups = set()
        for entry in text.split(","):
            if not entry.strip():
                raise BadRequest(f"the forget spec {text!r} has an empty entry; {allowed}")
            if plain(entry) not in known:
                number = f"#{entry.strip()}"
                at = known.get(number) if re.fullmatch("#[0-9]+", number) else None
                hint = "" if at is None else f": no group has that name; {number} is {group_names[at]!r}"
                raise BadRequest(f"unknown group {entry.strip()!r} in the forget spec {text!r}{hint}; {allowed}")
            groups.add(known[plain(entry)])
        if len(groups) == len(group_names):
            raise BadRequest(f"the forget spec {text!r} names every group: nothing would be left to retain")
        return cls.of(sorted(groups), group_names)

    def __str__(self) -> str:
        return ",".join(self.group_names[g] for g in self.groups)

    @property
    def mask(self) -> list[bool]:
        """One entry per group: whether it is in D_f."""
        return [g in self.groups for g in range(len(self.group_names))]

    @property
    def slug(self) -> str:
        """`slug_of` the names of the groups in D_f."""
        return slug_of(self.group_names[g] for g in self.groups)


@lru_cache(maxsize=16)  # of a request's thousands of specs the groups are the same
def _entries(group_names: tuple[str, ...]) -> dict[str, int]:
    """The groups by what stands for them in a spec, as `plain` has it: index behind `#`, and name.

    Raises:
        BadRequest: names that `check_names` refuses.
    """
    check_names(group_names)
    return {**{f"#{i}": i for i in range(len(group_names))}, **{plain(name): i for i, name in enumerate(group_names)}}


def plain(name: str) -> str:
    """A group's name as it is compared: without regard to upper and lower case, blanks around it, and forms of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def is_unseen(character: str) -> bool:
    """Whether a character leaves nothing to be seen where it is printed, or does something else than to be printed."""
    return unicodedata.category(character) in UNSEEN and character not in JOINERS


def visible(text: str) -> str:
    """Text on one line, with what is not seen in it as escapes: the end of a line is a blank, ESC is `\\x1b`."""
    return "".join(" " if c.isspace() else ascii(c)[1:-1] if is_unseen(c) else c for c in text.strip())


def split_specs(text: str, group_names: Sequence[str]) -> list[str]:
    """The specs of several requests, as text: `"7|3,5|0"` -> `["7", "3,5", "0"]`. One spec is a list of one.

    Raises:
        BadRequest: a group's name holds the `|`, and the text is not one spec of such groups.
    """
    holding = next((name for name in group_names if BETWEEN in name), None)
    if BETWEEN not in text or holding is None:
        return [spec.strip() for spec in text.split(BETWEEN)]
    try:
        ForgetSpec.parse(text, group_names)
    except BadRequest as error:
        raise BadRequest(
            f"several forget specs cannot be told apart where the name of a group, {holding!r}, holds a {BETWEEN}; allowed: one"
            f" at a time. As one: {error}"
        ) from error
    return [text]


def check_names(names: Iterable[str], kind: str = "the group") -> None:
    """Refuses names that a forget spec could not hold, or not tell apart.

    Args:
        kind: what errors call that which bears the names.

    Raises:
        BadRequest: an empty name; one with a comma, a blank at either end or a character that is not seen; one such as `#7`,
            which is an index; two that are the same in lower case.
    """
    first: dict[str, str] = {}
    for name in names:
        unseen = any(map(is_unseen, name))
        if not name or name != name.strip() or "," in name or unseen or re.fullmatch("#[0-9]+", name):
            raise BadRequest(
                f"{kind} name {name!r} is not allowed; allowed: text without a comma, a control character or a blank at either"
                " end, and not # with a number, which is an index"
            )
        if plain(name) in first:
            raise BadRequest(
                f"{kind} names {first[plain(name)]!r} and {name!r} are not told apart; allowed: names that differ in more than"
                " upper and lower case"
            )
        first[plain(name)] = name


def slug_of(names: Iterable[str]) -> str:
    """Groups in the letters that a registry alias may have, in whatever order they are named: `7`, `3-5`, `ankle_boot`.

    No two sets of groups share one, and none is longer than `LONGEST_SLUG`. Names of other characters, or too many of them,
    are told apart by a digest behind two underscores, which the others never have; so is the empty set.
    """
    known = sorted(set(map(plain, names)))
    slug = "-".join(known).replace(" ", "_")
    if known and len(slug) <= LONGEST_SLUG and all(re.fullmatch("[a-z0-9]+( [a-z0-9]+)*", name) for name in known):
        return slug
    readable = re.sub("[^a-z0-9]+", "-", slug)[:READABLE].strip("-")
    return f"{readable}__{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"
