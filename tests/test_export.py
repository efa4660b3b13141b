from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_mlops import Dataset, ForgetSpec, OnnxClassifier, Target, onnx_template, to_onnx
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import GateFailure
from hf_mlops.export.weights import read_weights, verify
from hf_mlops.population.networks import ARCHITECTURES

SEVEN = ForgetSpec.parse("7", [str(digit) for digit in range(10)])
Made = tuple[Target, torch.Tensor, OnnxClassifier]


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def made(request: pytest.FixtureRequest, digits: Dataset) -> Made:
    target = Target.for_dataset(request.param, digits)
    weights = target.initial_weights(4)
    return target, weights, to_onnx(target, weights, SEVEN, digits.class_names, "hyperforget/3", onnx_template(target))


def test_a_classifier_answers_as_torch_does_on_the_whole_test_split(made: Made, digits: Dataset) -> None:
    target, weights, classifier = made
    assert verify(classifier, digits.test.images, target.logits(weights[None], digits.test.images)[0]) <= 1e-5


def test_another_classifiers_answers_are_not_accepted(made: Made, digits: Dataset) -> None:
    target, _, classifier = made
    other = target.logits(target.initial_weights(5)[None], digits.test.images)[0]
    with pytest.raises(GateFailure, match="ONNX Runtime and torch differ by"):
        verify(classifier, digits.test.images, other)


def test_a_difference_is_a_share_of_the_largest_logit_or_of_1(digits: Dataset) -> None:
    target, images = Target.for_dataset("mlp-16", digits), digits.test.images[:1]
    weights = torch.zeros(target.size)
    weights[-10:] = torch.arange(10)  # the biases of the logits
    zeros, tens = (
        to_onnx(target, w, SEVEN, digits.class_names, template=onnx_template(target)) for w in (0 * weights, weights)
    )
    assert verify(zeros, images, torch.full((1, 10), 2e-6)) == pytest.approx(2e-6)
    assert verify(tens, images, torch.arange(10.0)[None] + torch.tensor([0.0] * 9 + [1e-5])) == pytest.approx(1e-5 / 9, rel=0.1)


def test_input_and_output_are_as_documented_for_any_batch(made: Made, digits: Dataset) -> None:
    classifier = made[2]
    assert (classifier.input_shape, classifier.classes) == ((1, 8, 8), 10)
    (image,), (logits,) = classifier._session.get_inputs(), classifier._session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 1, 8, 8])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 10])
    for batch in (1, 7, 360):
        assert classifier.logits(digits.test.images[:batch].numpy()).shape == (batch, 10)


def test_metadata_says_what_the_classifier_is(made: Made, digits: Dataset) -> None:
    target, weights, classifier = made
    about = classifier.metadata
    assert json.loads(about["class_names"]) == list(digits.class_names)
    assert (about["forget"], about["hypernetwork"]) == ("7", "hyperforget/3")
    assert json.loads(about["parameters"]) == [f"network.{name}" for name in target.shapes]
    assert about["weights_sha256"] == classifier.digest == sha256(weights.numpy().tobytes())


def test_shared_values_are_in_the_model_and_in_its_digest(digits: Dataset) -> None:
    target = Target.for_dataset("own_networks:frozen", digits, "head.*")
    weights = target.initial_weights(0) + 0.1
    classifier = to_onnx(target, weights, SEVEN, digits.class_names)
    assert verify(classifier, digits.test.images, target.logits(weights[None], digits.test.images)[0]) <= 1e-5
    names = json.loads(classifier.metadata["parameters"])
    assert names[:2] == ["network.head.weight", "network.head.bias"]
    assert {"network.scale", "network.body.0.weight", "network.body.1.running_mean"} <= set(names)
    values = target.state_dict(weights)
    listed = b"".join(values[name.removeprefix("network.")].numpy().tobytes() for name in names)
    assert classifier.metadata["weights_sha256"] == sha256(listed)


def test_a_template_gives_each_classifier_its_own_weights_and_keeps_none(digits: Dataset) -> None:
    target = Target.for_dataset("mlp-16", digits)
    template = onnx_template(target)
    before = template.model.SerializeToString()
    for seed in (1, 2):
        weights = target.initial_weights(seed)
        classifier = to_onnx(target, weights, SEVEN, digits.class_names, template=template)
        assert classifier.digest == sha256(weights.numpy().tobytes())
    assert template.model.SerializeToString() == before


def test_a_parameter_that_the_exporter_leaves_out_is_named(digits: Dataset) -> None:
    shapes = {"unused": (3,), "1.weight": (10, 64), "1.bias": (10,)}
    target = Target("own_networks:idle", (1, 8, 8), 10, [0.0], [1.0], shapes=shapes, shared={})
    with pytest.raises(ValueError, match=r"own_networks:idle lost the parameters {'network.unused': \(3,\)}"):
        onnx_template(target)


def test_the_template_of_another_architecture_is_refused(digits: Dataset) -> None:
    wide, narrow = (Target.for_dataset(name, digits) for name in ("mlp-16", "mlp-10"))
    with pytest.raises(ValueError, match=r"the template of mlp-10 does not hold {'network.1.weight': \(16, 64\)"):
        to_onnx(wide, wide.initial_weights(0), SEVEN, digits.class_names, template=onnx_template(narrow))


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.full((1210,), np.nan)], ids=["too few", "not finite"])
def test_weights_that_are_no_classifier_are_refused(weights: torch.Tensor, digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"allowed: \(1210,\), all finite"):
        to_onnx(Target.for_dataset("mlp-16", digits), weights, SEVEN, digits.class_names)


def test_weights_come_back_from_an_onnx_file_and_from_a_state_dict(made: Made, tmp_path: Path) -> None:
    target, weights, classifier = made
    (tmp_path / "classifier.onnx").write_bytes(classifier.data)
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
