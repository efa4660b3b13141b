"""Versions that are registered in a moment, and stand-ins for what is registered: what they answer does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import least_model
import mlflow
from mlflow.entities import Run, RunData, RunInfo
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.models.model import ModelInfo

from hf_mlops import Reference
from hf_mlops.registry.models import Champion
from hf_mlops.registry.versions import Subject, belongs, register

DIGITS = Subject("digits", "d1", "mlp-16", "*")


def logged() -> ModelInfo:
    return mlflow.pyfunc.log_model(name="model", python_model=least_model.__file__, pip_requirements=[])


def registered(name: str, alias: str = "champion", **tags: str) -> ModelVersion:
    belongs(name, DIGITS)
    with mlflow.start_run():
        return register(logged(), name, alias, tags, "A test.")


def aliases(name: str = "hyperforget-classifier") -> dict[str, str]:
    """Of a registered model: the number of the version that each is on."""
    return {alias: str(number) for alias, number in mlflow.MlflowClient().get_registered_model(name).aliases.items()}


def a_run(run_id: str) -> Run:
    return Run(RunInfo(run_id, "0", "user", "FINISHED", 0, 0, "active"), RunData())


def a_version(name: str = "hyperforget", run_id: str = "r1", tags: dict[str, str] | None = None) -> ModelVersion:
    return ModelVersion(name, "3", 0, run_id=run_id, tags=[ModelVersionTag(*tag) for tag in (tags or {}).items()])


def a_champion(run_id: str = "r1") -> Champion:
    """One whose networks are not looked at."""
    nothing: Any = None
    return Champion(nothing, Reference.__new__(Reference), Path("nowhere"), a_version(run_id=run_id))
