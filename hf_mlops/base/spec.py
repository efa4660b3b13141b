"""The forget spec: which groups a request asks to forget. Nothing else in the system parses one."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from hf_mlops.base.errors import BadRequest

LONGEST_SLUG, READABLE = 100, 60  # characters; of the part before a digest


@dataclass(frozen=True)
class ForgetSpec:
    """A parsed forget spec.

    Args:
        groups: indices of the groups in D_f, ascending and without repetition; empty for "forget nothing".
        group_names: names of all the groups there are.
    """

    groups: tuple[int, ...]
    group_names: tuple[str, ...]

    @classmethod
    def of(cls, groups: Sequence[int], group_names: Sequence[str]) -> ForgetSpec:
        """The spec that forgets the groups with these indices."""
        return cls(tuple(sorted(set(groups))), tuple(group_names))

    @classmethod
    def parse(cls, text: str, group_names: Sequence[str], allow_empty: bool = True) -> ForgetSpec:
        """Reads `"7"`, `"3,5"`, `"Sneaker"` or `""` (forget nothing).

        An entry is a group's name (upper or lower case alike), else its index.

        Raises:
            BadRequest: an unknown group, an empty entry, every group at once, or, unless `allow_empty`, no group.
        """
        allowed = f"allowed: {', '.join(group_names)}, several joined by commas"
        if not isinstance(text, str):
            raise BadRequest(f"a forget spec is text, got {text!r} of type {type(text).__name__}; {allowed}")
        if not text.strip():
            if allow_empty:
                return cls((), tuple(group_names))
            raise BadRequest(f"the forget spec is empty: name at least one group; {allowed}")
        by_index = ((str(i), i) for i in range(len(group_names)))
        by_name = ((name.lower(), i) for i, name in enumerate(group_names))
        index = dict(chain(by_index, by_name))  # a name wins over an index
        groups = set()
        for entry in text.split(","):
            if not entry.strip():
                raise BadRequest(f"the forget spec {text!r} has an empty entry; {allowed}")
            if entry.strip().lower() not in index:
                raise BadRequest(f"unknown group {entry.strip()!r} in the forget spec {text!r}; {allowed}")
            groups.add(index[entry.strip().lower()])
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
        return slug_of([self.group_names[g] for g in self.groups])


def plain(name: str) -> str:
    """A group's name as it is compared: without regard to upper and lower case, blanks around it, and forms of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def slug_of(names: Iterable[str]) -> str:
    """Groups in the letters that a registry alias may have, in whatever order they are named: `7`, `3-5`, `ankle_boot`.

    No two sets of groups share one. Names of other characters, or too many of them, are told apart by a digest, after two
    underscores, which the others never have.
    """
    known = sorted(map(plain, names))
    slug = "-".join(known).replace(" ", "_")
    if known and len(slug) <= LONGEST_SLUG and all(re.fullmatch("[a-z0-9]+( [a-z0-9]+)*", name) for name in known):
        return slug
    readable = re.sub("[^a-z0-9]+", "-", slug).strip("-")[:READABLE]
    return f"{readable}__{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"
