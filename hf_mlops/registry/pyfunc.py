"""The registered model `hyperforget`, as MLflow models-from-code: `predict` samples unlearned classifiers for forget specs.

It imports no torch.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

from hf_mlops.base.errors import BadRequest
from hf_mlops.registry.checked import require_unaltered
from hf_mlops.registry.request import Request, as_given
from hf_mlops.serving.hypernetwork import OnnxHypernetwork

COLUMNS = {
    "forget": "str",
    "sample": "int64",
    "seed": "int64",
    "retain_loss": "float64",
    "forget_loss": "float64",
    "weights": "object",
    "onnx": "object",
}

SERVED = "__pyfunc_model_path__"  # a variable of the environment, which MLflow's server has
TURN = 0.0005  # seconds that one request computes in Python before another's turn (python -m benchmarks.beside)

log = logging.getLogger("hf_mlops.pyfunc")


class HyperForget(PythonModel):
    """Samples classifiers that behave as if retrained without a forget set."""

    def load_context(self, context: PythonModelContext) -> None:
        if SERVED in os.environ:
            sys.setswitchinterval(TURN)
        folder = Path(context.artifacts["hypernetwork"])
        require_unaltered(folder.parents[1])
        self.hypernetwork = OnnxHypernetwork.read(folder)
        self.sampler = self.hypernetwork.sampler
        size = len(self.hypernetwork.layout.state_bytes(np.zeros(self.hypernetwork.layout.size, np.float32)))
        self.sample_bytes = {"weights": size, "onnx": len(self.hypernetwork.graphs["template"]) + size}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row per sample.

        Args:
            model_input: column `forget`, forget specs as text: `"7"`, `"3,5"`, group names, `""` for none; or what else
                `Request.of` reads as such. Parameters may be columns too, each row with its own.
            params: `n_samples` of each row, `seed` of each row's first sample, denoising `steps`, and `retain_loss` and
                `forget_loss` to ask for (absent or None: those of retrained classifiers); `output`: `weights` or `onnx`.

        Returns:
            `forget`, `sample` (from 0), `seed`, the prompted `retain_loss` and `forget_loss` (nats; None if nothing is
            forgotten), and either `weights`, the bytes of a safetensors file with the network's complete state dict: the
            generated tensors and the shared ones; or `onnx`, those of the finished classifier. The other one is None.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400) for a bad row or parameter, or more than `Request.require_room`
                allows; INTERNAL_ERROR (HTTP 500) for everything else.
        """
        data, asked = as_given(self, model_input, params)
        try:
            request = Request.of(data, asked, self.hypernetwork.groups.names)
            request.require_room(self.sample_bytes)
            return as_frame(list(self._rows(request)))
        except BadRequest as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except Exception as error:  # MLflow's server would call it a bad request
            log.exception("a request failed, and not by its own fault")
            raise MlflowException(f"{type(error).__name__} inside hf_mlops: {error}", INTERNAL_ERROR) from error

    def _rows(self, request: Request) -> Iterator[dict[str, Any]]:
        drawn = self.sampler.sample([row.wanted for row in request.rows])
        for row, samples in zip(request.rows, drawn, strict=True):
            forget_loss = samples.prompt.forget_loss
            for index, (seed, weights) in enumerate(zip(samples.seeds, samples.weights, strict=True)):
                as_onnx = row.output == "onnx"
                yield {
                    "forget": str(samples.spec),
                    "sample": index,
                    "seed": seed,
                    "retain_loss": samples.prompt.retain_loss,
                    "forget_loss": None if isnan(forget_loss) else forget_loss,
                    "weights": None if as_onnx else self.hypernetwork.layout.state_bytes(weights),
                    "onnx": self.hypernetwork.classifier(weights, samples.spec).data if as_onnx else None,
                }


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The answer, with its columns also if there is no row.

    Losses that are None stay so, in a column of objects: as NaN they would go into JSON as `NaN`, which is none.
    """
    columns = {}
    for name, dtype in COLUMNS.items():
        values = [row[name] for row in rows]
        columns[name] = pd.Series(values, dtype="object" if None in values else dtype)
    return pd.DataFrame(columns)


mlflow.models.set_model(HyperForget())
