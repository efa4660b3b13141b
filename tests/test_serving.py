"""Classifiers in ONNX as they are served: from a file, on NumPy and ONNX Runtime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hf_mlops.base.artifact import sha256
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.serving.classifier import OnnxClassifier, alike

CATS = ForgetSpec.parse("cat", ["cat", "dog"])
WEIGHT = np.float32([[1, 2], [0, -1]]).T  # of two pixels; not in the order that files have


@pytest.fixture
def template() -> OnnxClassifier:
    """Images of 1 x 1 x 2, two classes: logits = pixels @ weight + bias, both of which are zero."""
    values = {"weight": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32), "shape": np.int64([-1, 2])}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "shape"], ["pixels"]),
            helper.make_node("Gemm", ["pixels", "weight", "bias"], ["logits"]),
        ],
        "two_pixels",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    return OnnxClassifier(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), "the template")


@pytest.fixture
def classifier(template: OnnxClassifier) -> OnnxClassifier:
    return template.with_weights({"weight": WEIGHT}, ["bias", "not exported"], CATS, ["cat", "dog"], "hyperforget/3")


def test_logits_are_those_of_the_weights_put_in(classifier: OnnxClassifier) -> None:
    images = np.float32([[[[1, 0]]], [[[0.5, 1]]]])
    assert classifier.logits(images).tolist() == [[1, 0], [2.5, -1]]
    assert (classifier.input_shape, classifier.classes) == ((1, 1, 2), 2)


def test_metadata_says_what_was_put_in_and_what_was_shared(classifier: OnnxClassifier) -> None:
    assert classifier.metadata == {
        "class_names": '["cat", "dog"]',
        "forget": "cat",
        "hypernetwork": "hyperforget/3",
        "parameters": '["weight", "bias"]',
        "weights_sha256": sha256(WEIGHT.tobytes() + np.zeros(2, np.float32).tobytes()),
    }


def test_the_digest_follows_generated_and_shared_values_and_no_others(classifier: OnnxClassifier) -> None:
    def digest(changed: str) -> str:
        model = onnx.ModelProto()
        model.CopyFrom(classifier.model)
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == changed)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, changed))
        return OnnxClassifier(model).digest

    assert [digest(name) == classifier.metadata["weights_sha256"] for name in ("weight", "bias", "shape")] == [
        False,
        False,
        True,
    ]


def test_a_model_that_lists_no_parameters_has_no_digest(template: OnnxClassifier) -> None:
    with pytest.raises(ValueError, match="the template was not made by hf_mlops: it has no 'parameters'"):
        _ = template.digest


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"wieght": WEIGHT}, r"the template does not hold {'wieght': \(2, 2\)}; allowed: {'weight': \(2, 2\), 'bias': \(2,\)"),
        ({"weight": WEIGHT[:1]}, r"the template does not hold {'weight': \(1, 2\)}; allowed: "),
        ({"weight": WEIGHT.astype(np.int64)}, "the classifier is no valid ONNX model: "),
    ],
    ids=["another name", "another shape", "another dtype"],
)
def test_weights_that_do_not_fit_the_template_are_refused(
    template: OnnxClassifier, weights: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        template.with_weights(weights, [], CATS, ["cat", "dog"], "")


@pytest.mark.parametrize(
    "images", [np.zeros((3, 1, 2, 1), np.float32), np.zeros((3, 1, 1, 2))], ids=["another shape", "another dtype"]
)
def test_images_that_the_classifier_does_not_take_are_refused(classifier: OnnxClassifier, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"are not allowed; allowed: float32 \(images, \*\(1, 1, 2\)\)"):
        classifier.logits(images)


def test_a_classifier_read_from_a_file_is_the_one_written(classifier: OnnxClassifier, tmp_path: Path) -> None:
    file = tmp_path / "classifier.onnx"
    file.write_bytes(classifier.data)
    read = OnnxClassifier.read(file)
    assert (read.data, read.metadata, read.digest) == (classifier.data, classifier.metadata, classifier.digest)


def test_files_without_a_model_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("absent.onnx", "text.onnx"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an ONNX model: "):
            OnnxClassifier.read(tmp_path / name)


def test_a_model_that_breaks_the_standard_fails_its_check_by_name(classifier: OnnxClassifier, tmp_path: Path) -> None:
    classifier.check()
    broken = onnx.ModelProto()
    broken.CopyFrom(classifier.model)
    broken.graph.node[1].input[0] = "nowhere"
    (tmp_path / "broken.onnx").write_bytes(broken.SerializeToString())
    with pytest.raises(ValueError, match=r"broken.onnx is no valid ONNX model: .*nowhere"):
        OnnxClassifier.read(tmp_path / "broken.onnx").check()


def test_the_digest_of_the_file_follows_whatever_is_in_it(classifier: OnnxClassifier, tmp_path: Path) -> None:
    """Where the digest of the weights says nothing: a constant, an operator, the metadata."""
    file = tmp_path / "classifier.onnx"
    onnx.save_model(classifier.model, file)  # as MLflow writes it
    assert classifier.file_digest == sha256(file) == sha256(classifier.data) == OnnxClassifier.read(file).file_digest
    digests = {classifier.file_digest}
    for change in ("constant", "operator", "metadata"):
        model = onnx.ModelProto()
        model.CopyFrom(classifier.model)
        if change == "constant":
            (shape,) = (tensor for tensor in model.graph.initializer if tensor.name == "shape")
            shape.CopyFrom(numpy_helper.from_array(np.int64([1, 2]), "shape"))
        elif change == "operator":
            model.graph.node.append(helper.make_node("Neg", ["logits"], ["unused"]))
        else:
            model.metadata_props.add(key="forget_too", value="dog")
        altered = OnnxClassifier(model)
        assert altered.digest == classifier.digest
        digests.add(altered.file_digest)
    assert len(digests) == 4


def test_a_shape_may_differ_from_the_models_in_sides_of_1_alone(template: OnnxClassifier) -> None:
    made = template.with_weights({"weight": WEIGHT[:, None], "bias": np.float32([[3, 4]])}, [], CATS, ["cat", "dog"], "")
    assert made.logits(np.float32([[[[1, 0]]]])).tolist() == [[4, 4]]
    assert [alike(*shapes) for shapes in (((), (1,)), ((2, 1, 3), (2, 3)), ((2, 3), (3, 2)), ((2,), ()), (None, ()))] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_one_session_answers_every_request(classifier: OnnxClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: opened.append(a) or session(*a, **k))
    for _ in range(3):
        classifier.logits(np.ones((1, 1, 1, 2), np.float32))
    assert len(opened) == 1


def test_a_classifier_answers_where_there_is_no_torch(classifier: OnnxClassifier, tmp_path: Path) -> None:
    (tmp_path / "classifier.onnx").write_bytes(classifier.data)
    code = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # stands for an environment without it: importing it is an ImportError
import numpy as np
from hf_mlops.serving.classifier import OnnxClassifier
classifier = OnnxClassifier.read(Path(sys.argv[1]))
classifier.check()
print(classifier.metadata["forget"], classifier.logits(np.ones((1, *classifier.input_shape), np.float32)).tolist())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "classifier.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "cat [[3.0, -1.0]]", done.stderr
