"""How a registered classifier is saved: as MLflow's `onnx` flavour, but served by `checked.py`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow
import onnx
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME

from hf_mlops.registry import checked


def save_model(path: str, onnx_model: onnx.ModelProto, mlflow_model: Model, **options: Any) -> None:
    """Writes a model folder, for `Model.log`.

    `mlflow.onnx.load_model` and whoever opens its `model.onnx` get the plain model; `mlflow.pyfunc.load_model` and
    `mlflow models serve` get one that refuses images out of range, where MLflow's own would answer with NaN.

    Args:
        path: the folder, not there yet.
        options: of `mlflow.onnx.save_model`.
    """
    mlflow.onnx.save_model(
        onnx_model,
        path,
        mlflow_model=mlflow_model,
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],  # these networks are far too small to gain from a GPU
        **options,
    )
    code, served = Path(checked.__file__), mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    shutil.copy(code, path)
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=code.name,
        artifacts={"model": {"path": served["data"], "uri": served["data"]}},
        conda_env=served["env"]["conda"],
        python_env=served["env"]["virtualenv"],
    )
    mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))
