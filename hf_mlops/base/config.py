"""Configurations: frozen dataclasses that are checked when made and stored as JSON with all that they made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from hf_mlops.base.errors import BadRequest, DamagedArtifact

Config = TypeVar("Config")


def check_config(config: Any, rules: dict[str, tuple[Callable[[Any], bool], str]]) -> None:
    """Holds each named field of a configuration against its rule: (test, what is allowed).

    Raises:
        BadRequest: names the field, its value and what is allowed.
    """
    for name, (allowed, words) in rules.items():
        value = getattr(config, name)
        if not allowed(value):
            raise BadRequest(f"{name} = {value!r} is not allowed; allowed: {words}")


def config_from(kind: type[Config], values: dict[str, Any]) -> Config:
    """The dataclass of this kind from its JSON form (lists become tuples again).

    Raises:
        DamagedArtifact: fields that it does not have, or that are missing; names them.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if odd := names ^ values.keys():
        listed = ", ".join(f"{name!r} ({'missing' if name in names else 'unknown'})" for name in sorted(odd))
        raise DamagedArtifact(f"not a {kind.__name__}: {listed}; its fields are {', '.join(sorted(names))}")
    return kind(**{name: _as_tuples(value) for name, value in values.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
