from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from hf_mlops import Dataset, ForgetSpec, Target, onnx_template, to_onnx
from hf_mlops.export.onnx import metadata, read_weights, verify, weights_digest
from hf_mlops.population.networks import ARCHITECTURES

SEVEN = ForgetSpec.parse("7", [str(digit) for digit in range(10)])


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def made(request: pytest.FixtureRequest, digits: Dataset) -> tuple[Target, torch.Tensor, bytes]:
    target = Target.for_dataset(request.param, digits)
    weights = target.initial_weights(4)
    return target, weights, to_onnx(target, weights, SEVEN, digits.class_names, "hyperforget/3", onnx_template(target))


def test_the_model_answers_as_torch_does_on_the_whole_test_split(
    made: tuple[Target, torch.Tensor, bytes], digits: Dataset
) -> None:
    target, weights, model = made
    assert verify(model, digits.test.images, target.logits(weights[None], digits.test.images)[0]) <= 1e-5


def test_another_models_answers_are_not_accepted(made: tuple[Target, torch.Tensor, bytes], digits: Dataset) -> None:
    target, _, model = made
    other = target.logits(target.initial_weights(5)[None], digits.test.images)[0]
    with pytest.raises(ValueError, match="ONNX Runtime and torch differ by"):
        verify(model, digits.test.images, other)


def test_input_and_output_are_as_documented_for_any_batch(made: tuple[Target, torch.Tensor, bytes], digits: Dataset) -> None:
    session = onnxruntime.InferenceSession(made[2], providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 1, 8, 8])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 10])
    for batch in (1, 7, 360):
        (answer,) = session.run(None, {"image": digits.test.images[:batch].numpy()})
        assert answer.shape == (batch, 10)


def test_metadata_says_what_the_model_is(made: tuple[Target, torch.Tensor, bytes], digits: Dataset) -> None:
    target, _, model = made
    about = metadata(model)
    assert json.loads(about["class_names"]) == list(digits.class_names)
    assert (about["forget"], about["hypernetwork"]) == ("7", "hyperforget/3")
    assert about["weights_sha256"] == weights_digest(model)
    assert json.loads(about["parameters"]) == [f"network.{name}" for name in target.shapes]


def test_the_digest_follows_the_weights(made: tuple[Target, torch.Tensor, bytes]) -> None:
    model = made[2]
    proto = onnx.load_from_string(model)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name.startswith("network."))
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[0] += 1e-3
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    assert weights_digest(proto.SerializeToString()) != metadata(model)["weights_sha256"]


def test_shared_values_are_in_the_model_and_in_its_digest(digits: Dataset) -> None:
    target = Target.for_dataset("own_networks:frozen", digits, "head.*")
    weights = target.initial_weights(0) + 0.1
    model = to_onnx(target, weights, SEVEN, digits.class_names)
    assert verify(model, digits.test.images, target.logits(weights[None], digits.test.images)[0]) <= 1e-5
    names = json.loads(metadata(model)["parameters"])
    assert names[:2] == ["network.head.weight", "network.head.bias"]
    assert {"network.scale", "network.body.0.weight", "network.body.1.running_mean"} <= set(names)


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.full((1210,), np.nan)], ids=["too few", "not finite"])
def test_weights_that_are_no_classifier_are_refused(weights: torch.Tensor, digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"allowed: \(1210,\), all finite"):
        to_onnx(Target.for_dataset("mlp-16", digits), weights, SEVEN, digits.class_names)


def test_weights_come_back_from_an_onnx_file_and_from_a_state_dict(
    made: tuple[Target, torch.Tensor, bytes], tmp_path: Path
) -> None:
    target, weights, model = made
    (tmp_path / "classifier.onnx").write_bytes(model)
    save_file(target.state_dict(weights), tmp_path / "classifier.safetensors")
    for name in ("classifier.onnx", "classifier.safetensors"):
        assert torch.equal(read_weights(tmp_path / name, target), weights)


@pytest.mark.parametrize("name", ["absent.onnx", "absent.safetensors", "text.onnx", "text.safetensors"])
def test_a_file_without_weights_is_refused_by_name(name: str, digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match=f"{name} holds no weights; allowed: an ONNX or a safetensors file"):
        read_weights(tmp_path / name, Target.for_dataset("mlp-16", digits))


def test_weights_of_another_architecture_or_not_finite_are_refused(digits: Dataset, tmp_path: Path) -> None:
    mlp, lenet = (Target.for_dataset(name, digits) for name in ("mlp-16", "lenet"))
    save_file(lenet.state_dict(lenet.initial_weights(0)), tmp_path / "lenet.safetensors")
    with pytest.raises(ValueError, match="not the weights of mlp-16"):
        read_weights(tmp_path / "lenet.safetensors", mlp)
    save_file(mlp.state_dict(mlp.initial_weights(0) / 0), tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match="all of them finite"):
        read_weights(tmp_path / "broken.safetensors", mlp)
