"""Errors by what is to be done about them. Each ends a command with a status of its own; only a bad request is the caller's."""

from __future__ import annotations

from typing import ClassVar


class BadRequest(ValueError):
    """What was asked for is not allowed: the message names the value and what is."""

    status: ClassVar[int] = 2  # click's, for what it refuses itself


class SomeRefused(BadRequest):
    """Of several requests some are not allowed, so that none was answered.

    Args:
        errors: what is said against those, by their place from 0.
        among: how many there are.
    """

    def __init__(self, errors: dict[int, BadRequest], among: int):
        self.errors = errors
        lines = "".join(f"\n  number {place + 1}: {error}" for place, error in errors.items())
        super().__init__(f"{len(errors)} of {among} requests are not allowed, and none was answered:{lines}")

    def of(self, place: int) -> BadRequest:
        """What is said against one of them."""
        return self.errors.get(place, BadRequest("not answered, since others that were asked for with it are not allowed"))


class GateFailure(Exception):
    """What was made does not meet its gates: nothing was registered, no alias moved."""

    status: ClassVar[int] = 3


class DamagedArtifact(ValueError):
    """A file is missing, truncated, altered or of another format, or is not what was audited: what made it must run again."""

    status: ClassVar[int] = 4


class OutOfReach(OSError):
    """The store, a server, a cluster or a disk does not answer or refuses: the same command goes on once it does."""

    status: ClassVar[int] = 5
