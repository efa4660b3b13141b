"""A registered classifier as MLflow models-from-code: images are checked, then ONNX Runtime answers.

It imports nothing of hf_mlops, so that a copy of this file in the model's folder is all that a server needs.
"""

from __future__ import annotations

import logging
from typing import Any

import mlflow
import numpy as np
import onnxruntime
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

log = logging.getLogger("hf_mlops.classifier")


class CheckedClassifier(PythonModel):
    """Answers images whose values are those that the classifier was trained on: 0 to 1."""

    def load_context(self, context: PythonModelContext) -> None:
        self.session = onnxruntime.InferenceSession(context.artifacts["model"], providers=["CPUExecutionProvider"])

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Logits of images.

        Args:
            model_input: float32 (images, channels, height, width), values 0 to 1; or, as MLflow gives them after it has held
                name, dtype and shape against the signature, a dict with them as `image`.

        Returns:
            `logits`, float32 (images, classes).

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400) for a value that is not finite or out of range, the first of
                which it names; INTERNAL_ERROR (HTTP 500) for everything else.
        """
        (name,) = (tensor.name for tensor in self.session.get_inputs())
        images = model_input[name] if isinstance(model_input, dict) else model_input
        bad = ~((images >= 0) & (images <= 1))  # NaN is neither
        if bad.any():
            first = [int(index) for index in np.unravel_index(bad.argmax(), bad.shape)]
            raise MlflowException.invalid_parameter_value(
                f"{name}{first} = {images[tuple(first)]} is not allowed ({bad.sum()} of {bad.size} values are not); allowed:"
                " finite values, 0 to 1 (8-bit pixels over 255). A null is read as nan, what float32 cannot hold as inf"
            )
        try:
            outputs = [tensor.name for tensor in self.session.get_outputs()]
            return dict(zip(outputs, self.session.run(outputs, {name: images}), strict=True))
        except Exception as error:  # MLflow's server would call it a bad request
            log.exception("a request failed, and not by its own fault")
            raise MlflowException(f"{type(error).__name__} in ONNX Runtime: {error}", INTERNAL_ERROR) from error


mlflow.models.set_model(CheckedClassifier())
