"""The policy: no command line opens a gate further."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import (
    NEEDED,
    run,
)

from hf_mlops.base.errors import BadRequest


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the policy is read from; there is none yet."""
    monkeypatch.setenv("HF_MLOPS_POLICY", str(tmp_path / "policy.json"))
    return tmp_path / "policy.json"


@pytest.mark.parametrize("name", ["main", "hypernet", "forget"])
def test_no_command_line_opens_a_gate_further_than_the_policy(name: str, policy: Path) -> None:
    policy.write_text('{"gates": {"max_forget_gap": 0.02}}')
    words = [name, "--dry-run", *NEEDED.get(name, [])]
    gates = json.loads(run(*words, "--max-forget-gap=0.02", "--max-retain-gap=1").stdout)["gates"]
    assert gates == {"max_forget_gap": 0.02, "max_retain_gap": 1.0, "max_forget_distance": 0.5}
    refused = run(*words, "--max-forget-gap=0.021")
    assert refused.exit_code == BadRequest.status
    assert refused.stderr == (f"Error: max_forget_gap = 0.021 is not allowed; allowed: at most 0.02, by the policy {policy}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read as a policy in JSON: [Errno 2] No such file"),
        ("gates:", "cannot be read as a policy in JSON: Expecting value"),
        ("[]", "says []; allowed:"),
        ("{}", "says {}; allowed:"),
        ('{"gates": {}, "gate": {}}', "says {'gates': {}, 'gate': {}}; allowed:"),
        ('{"gates": {"max_forget_acuracy": 0.1}}', "says max_forget_acuracy = 0.1; allowed:"),
        ('{"gates": {"max_retain_gap": 2}}', "says max_retain_gap = 2; allowed:"),
        ('{"gates": {"max_retain_gap": "0.1"}}', "says max_retain_gap = '0.1'; allowed:"),
        ('{"gates": {"max_retain_gap": true}}', "says max_retain_gap = True; allowed:"),
        ('{"gates": {"max_retain_gap": NaN}}', "says max_retain_gap = nan; allowed:"),
    ],
)
def test_a_policy_that_is_not_one_is_refused(text: str | None, message: str, policy: Path) -> None:
    if text is not None:
        policy.write_text(text)
    refused = run("forget", "--dry-run", "--forget-class=7")
    assert refused.exit_code == BadRequest.status and str(policy) in refused.stderr and message in refused.stderr


def test_without_a_policy_every_gate_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_MLOPS_POLICY", raising=False)
    assert (
        json.loads(run("forget", "--dry-run", "--forget-class=7", "--max-retain-gap=1").stdout)["gates"]["max_retain_gap"] == 1
    )
