"""Errors by what is to be done about them. Each ends a command with a status of its own; only a bad request is the caller's."""

from __future__ import annotations

from typing import ClassVar


class BadRequest(ValueError):
    """What was asked for is not allowed: the message names the value and what is."""

    status: ClassVar[int] = 2  # click's, for what it refuses itself


class GateFailure(Exception):
    """What was made does not meet its gates: nothing was registered, no alias moved."""

    status: ClassVar[int] = 3


class DamagedArtifact(ValueError):
    """A file is missing, truncated, altered or of another format, or is not what was audited: what made it must run again."""

    status: ClassVar[int] = 4


class OutOfReach(OSError):
    """The store, a server, a cluster or a disk does not answer or refuses: the same command goes on once it does."""

    status: ClassVar[int] = 5
