"""What a store holds that may be deleted, and asking for it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import mlflow
import pytest
from commands import run
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from registering import DIGITS, registered

from hf_mlops.registry.names import ARCHITECTURE, DATA_DIGEST, DATASET, FORGET
from hf_mlops.registry.runs import open_run, step_run
from hf_mlops.steps.retention import KINDS, Retention, seconds_of

DAY = 86400.0
NEVER = dict.fromkeys(KINDS, "never")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes leave theirs in the usual one."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def found(after: float = 0, **ages: str) -> list[tuple[str, str, int]]:
    """Kind, sentence and bytes of what may be deleted so many days from now; kinds that are not named are kept for ever."""
    return [(one.kind, one.what, one.size) for one in retention(after, **ages).expendable()]


def retention(after: float = 0, **ages: str) -> Retention:
    return Retention({kind: seconds_of(kind, age) for kind, age in {**NEVER, **ages}.items()}, time.time() + after * DAY)


def deleted(**ages: str) -> str:
    """What the command says as it deletes."""
    done = run("retention", "--delete=yes", *(f"--{kind}={age}" for kind, age in {**NEVER, **ages}.items()))
    assert done.exit_code == 0, done.output
    return done.stdout


def row(said: str, kind: str) -> list[str]:
    """Of the table that the command prints: the age of a kind, how many, and how many MB."""
    return next(line.split()[1:] for line in said.splitlines() if line.split()[:1] == [kind])


def a_population(size: int = 1_500_000) -> Run:
    tags = {DATASET: "digits", DATA_DIGEST: "d1", ARCHITECTURE: "mlp-16"}
    with step_run("targets", "t", {}, tags) as made:
        mlflow.log_text("x" * size, "population/population.safetensors")
        mlflow.log_text("spec,runs", "reference.csv")
    return mlflow.get_run(made.info.run_id)


def a_classifier(spec: str = "7", **tags: str) -> ModelVersion:
    return registered("hyperforget-classifier", f"forget-{spec}", **{**DIGITS.tags, FORGET: spec, **tags})


def numbers(name: str = "hyperforget-classifier") -> list[int]:
    return sorted(int(one.version) for one in mlflow.MlflowClient().search_model_versions(f"name = '{name}'"))


def a_run_that_failed(step: str) -> str:
    with pytest.raises(RuntimeError), open_run(step) as made:
        mlflow.log_text("x" * 500_000, "kept.txt")
        raise RuntimeError
    return made.info.run_id
