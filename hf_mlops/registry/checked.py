"""A registered classifier as MLflow models-from-code: files and images are checked, then ONNX Runtime answers.

It imports nothing of hf_mlops, so that a copy of this file in the model's folder is all that a server needs.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

log = logging.getLogger("hf_mlops.classifier")

SUMS = "SHA256SUMS"  # of all files of a model, a file beside them: what `sha256sum` writes and checks
ADDED = (SUMS, "registered_model_meta")  # what MLflow adds to what it takes out of a registry is not in it
LARGEST_SUMS = 1 << 20  # bytes


def files_in(folder: Path) -> list[str]:
    """The files of a model by their paths in its folder, without those that are `ADDED` and what Python compiles."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(path.as_posix() for path in paths if path.as_posix() not in ADDED and "__pycache__" not in path.parts)


def altered(folder: Path) -> str:
    """What of a model's files is not as it was logged, in words; empty: nothing."""
    try:
        if (size := (folder / SUMS).stat().st_size) > LARGEST_SUMS:
            return f"{SUMS} has {size} bytes; allowed: up to {LARGEST_SUMS}"
        sums = {line[66:]: line[:64] for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()}
        there = files_in(folder)
        if odd := sorted(sums.keys() ^ set(there)):
            return f"{odd[0]} {'was not there when it was logged' if odd[0] in there else 'is not there'}"
        for name, digest in sums.items():
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if found != digest:
                return f"{name} is truncated or was altered: its SHA-256 is {found}, {SUMS} says {digest}"
    except (OSError, ValueError) as error:
        return f"its files and {SUMS} cannot be read: {error}"
    return ""


def require_unaltered(folder: Path) -> None:
    """Refuses to serve a model that is not as it was logged.

    What lies beside the files tells of damage; whoever may write to the store can change both, and this code.

    Raises:
        MlflowException: a file is missing, altered or new; says which.
    """
    if wrong := altered(folder):
        raise MlflowException(f"{folder} is not what was logged: {wrong}", INTERNAL_ERROR)


class CheckedClassifier(PythonModel):
    """Answers images whose values are those that the classifier was trained on: 0 to 1."""

    def load_context(self, context: PythonModelContext) -> None:
        file = Path(context.artifacts["model"])
        require_unaltered(file.parent)
        data = file.read_bytes()  # so opened, it can name no file beside it
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

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
