"""Registered classifiers as MLflow serves them: what they answer, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from asking import ask
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

from hf_mlops import Dataset, ForgetSpec, OnnxClassifier, Target, to_onnx
from hf_mlops.registry.models import Champion, register_classifier
from hf_mlops.registry.versions import Subject


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> OnnxClassifier:
    target = Target.for_dataset("mlp-16", digits)
    return to_onnx(target, target.initial_weights(0), ForgetSpec.of([8], digits.class_names), digits.class_names)


@pytest.fixture(scope="module")
def folder(client: mlflow.MlflowClient, classifier: OnnxClassifier, digits: Dataset) -> Path:
    """That of a registered classifier."""
    subject = Subject("digits", digits.digest, "mlp-16", "*")
    tags = [ModelVersionTag(*tag) for tag in subject.tags.items()]
    nothing: Any = None
    champion = Champion(nothing, nothing, Path("nowhere"), ModelVersion("hyperforget", "1", 0, tags=tags))
    with mlflow.start_run():
        register_classifier(classifier, champion, ForgetSpec.of([8], digits.class_names), {}, "")
    return Path(mlflow.artifacts.download_artifacts("models:/hyperforget-classifier@forget-8"))


@pytest.fixture
def served(folder: Path) -> Any:
    return mlflow.pyfunc.load_model(str(folder))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "nan"), (float("nan"), "nan"), (1e308, "inf"), (-1e39, "-inf"), (-0.001, "-0.001"), (16, "16.0")],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_classifier_refuses_values_that_are_not_0_to_1(served: Any, value: float | None, shown: str) -> None:
    images = np.full((2, 1, 8, 8), 0.5).tolist()
    images[1][0][2][3] = value
    status, text = ask(served, {"inputs": {"image": images}})
    assert status == 400
    assert f"image[1, 0, 2, 3] = {shown}" in text and "(1 of 128 values are not); allowed: finite values, 0 to 1" in text


def test_a_classifier_answers_the_ends_of_the_range_and_the_plain_model_stays_as_it_is(served: Any, classifier: Any) -> None:
    images = np.stack([np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)])
    status, answer = ask(served, {"inputs": {"image": images.tolist()}})
    assert status == 200
    np.testing.assert_allclose(answer["logits"], classifier.logits(images), rtol=1e-5)
    assert classifier.logits(200 * images).shape == (2, 10)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": {"picture": [[[[0.0] * 8] * 8]]}}, "missing inputs ['image']"),
        ({"inputs": {"image": [[1.0, 2.0]]}}, "Shape of input (1, 2) does not match expected shape (-1, 1, 8, 8)"),
        ({"inputs": {"image": "seven"}}, "could not convert string to float: 'seven'"),
        ({"inputs": {"image": []}}, "does not match expected shape (-1, 1, 8, 8)"),
    ],
)
def test_a_classifier_refuses_what_are_no_images(served: Any, body: dict[str, Any], message: str) -> None:
    status, text = ask(served, body)
    assert status == 400 and message in text


def test_a_fault_in_onnx_runtime_is_no_bad_request(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no memory")

    python_model = served.unwrap_python_model()
    inputs, outputs = python_model.session.get_inputs, python_model.session.get_outputs
    monkeypatch.setattr(python_model, "session", SimpleNamespace(run=broken, get_inputs=inputs, get_outputs=outputs))
    status, text = ask(served, {"inputs": {"image": [[[[0.0] * 8] * 8]]}})
    assert status == 500 and "RuntimeError in ONNX Runtime: no memory" in text


def test_mlflow_loads_the_plain_model_as_well(folder: Path, classifier: OnnxClassifier) -> None:
    assert (folder / "model.onnx").read_bytes() == classifier.data
    assert mlflow.onnx.load_model(str(folder)) == classifier.model


def test_a_served_classifier_needs_neither_hf_mlops_nor_torch(folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys, importlib.abc
class Absent(importlib.abc.MetaPathFinder):  # stands for an environment without them
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("hf_mlops", "torch", "onnx"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mlflow, numpy
model = mlflow.pyfunc.load_model({str(folder)!r})
print(model.predict(numpy.zeros((3, 1, 8, 8), numpy.float32))["logits"].shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "(3, 10) False", done.stderr
