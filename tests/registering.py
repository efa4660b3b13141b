"""Versions that are registered in a moment: what they answer does not matter."""

from __future__ import annotations

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PythonModel

from hf_mlops.registry.versions import Subject, belongs, register

DIGITS = Subject("digits", "d1", "mlp-16", "*")


class Answer(PythonModel):
    """The least that can be registered."""

    def predict(self, context: object, model_input: list[str], params: object = None) -> list[str]:
        return model_input


def logged() -> ModelInfo:
    return mlflow.pyfunc.log_model(name="model", python_model=Answer(), pip_requirements=[])


def registered(name: str, alias: str = "champion", **tags: str) -> ModelVersion:
    belongs(name, DIGITS)
    with mlflow.start_run():
        return register(logged(), name, alias, tags, "A test.")


def aliases(name: str = "hyperforget-classifier") -> dict[str, str]:
    """Of a registered model: the number of the version that each is on."""
    return {alias: str(number) for alias, number in mlflow.MlflowClient().get_registered_model(name).aliases.items()}
