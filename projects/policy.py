"""The policy: a file of the organisation's with limits of the gates, which no command line can pass."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_mlops.audit.gates import Gates
from hf_mlops.base.errors import BadRequest

VARIABLE = "HF_MLOPS_POLICY"


def within_policy(gates: Gates) -> Gates:
    """The same gates, if none is looser than in the file that HF_MLOPS_POLICY names.

    The file is JSON: `{"gates": {"max_forget_gap": 0.01, "max_retain_gap": 0.02, "max_forget_distance": 0.5}}`;
    a gate left out has no limit.

    Raises:
        BadRequest: a gate that is looser, or a file that is not there or says something else.
    """
    file = os.environ.get(VARIABLE)
    if not file:
        return gates
    given = asdict(gates)
    for name, most in _limits(Path(file), tuple(given)).items():
        if given[name] > most:
            raise BadRequest(f"{name} = {given[name]} is not allowed; allowed: at most {most}, by the policy {file}")
    return gates


def _limits(file: Path, names: tuple[str, ...]) -> dict[str, float]:
    """What a policy says, by the name of the gate."""
    try:
        policy = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{VARIABLE} = {str(file)!r} cannot be read as a policy in JSON: {error}") from error
    limits = policy.get("gates") if isinstance(policy, dict) else None
    allowed = f'allowed: {{"gates": {{…}}}} with numbers from 0 to 1 for {" and ".join(names)}'
    if not isinstance(limits, dict) or set(policy) != {"gates"}:
        raise BadRequest(f"the policy {file} says {policy!r}; {allowed}")
    for name, most in limits.items():
        if name not in names or not _is_share(most):
            raise BadRequest(f"the policy {file} says {name} = {most!r}; {allowed}")
    return limits


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
