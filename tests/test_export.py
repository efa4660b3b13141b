from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient
from onnx import numpy_helper

from hf_mlops import Dataset, ForgetSpec, OnnxClassifier, PopulationConfig, Target, onnx_template, to_onnx
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest, GateFailure
from hf_mlops.export.weights import check_export, verify
from hf_mlops.population.networks import ARCHITECTURES
from hf_mlops.steps import targets
from hf_mlops.steps.targets import Targets

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


@pytest.mark.parametrize("name", ["Reshaped", "Expanded"])
def test_code_that_fixes_the_batch_is_named_before_any_training(name: str, digits: Dataset) -> None:
    with pytest.raises(BadRequest) as caught:
        check_export(Target.for_dataset(f"own_networks:{name}", digits))
    assert str(caught.value) == (
        f"architecture 'own_networks:{name}' cannot be a target: it answers only batches of 2 once it is exported to ONNX:"
        " len(x), or a loop over images, fixes their number; allowed: x.shape[0], as in x.reshape(x.shape[0], -1) or"
        " x.expand(x.shape[0], -1)"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NotInOnnx", "it cannot be exported to ONNX: DispatchError: No ONNX function found for .*bessel_i0"),
        ("Guarded", "it cannot be exported to ONNX: GuardOnDataDependentSymNode: Could not guard on .* > 100.0"),
        ("Doubled", "it does not answer in ONNX as in torch: ONNX Runtime and torch differ by .*; allowed: at most 1e-05$"),
    ],
)
def test_a_network_that_onnx_cannot_hold_is_refused_in_one_line_and_no_pages(
    name: str, message: str, digits: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadRequest, match=f"^architecture 'own_networks:{name}' cannot be a target: {message}") as caught:
        check_export(Target.for_dataset(f"own_networks:{name}", digits))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert capfd.readouterr() == ("", "")


def test_what_onnx_runtime_cannot_run_is_refused_with_its_reason(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_one_image(classifier: OnnxClassifier, images: np.ndarray) -> np.ndarray:
        if len(images) == 3:
            raise RuntimeError("[ONNXRuntimeError] : 9 :\n not for three")
        return answer(classifier, images)

    answer = OnnxClassifier.logits
    monkeypatch.setattr(OnnxClassifier, "logits", of_one_image)
    with pytest.raises(
        BadRequest, match=r"does not answer in ONNX as in torch: RuntimeError: \[ONNXRuntimeError\] : 9 : not for three"
    ):
        check_export(Target.for_dataset("mlp-10", digits))


@pytest.mark.parametrize("name", [*ARCHITECTURES, "own_networks:Linear", "own_networks:frozen"])
def test_what_can_be_exported_passes_the_check_for_images_of_any_number(name: str, digits: Dataset) -> None:
    check_export(Target.for_dataset(name, digits))


def test_targets_tries_the_export_of_a_users_network_when_it_is_made_and_of_a_named_one_before_its_run(
    digits: Dataset, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match="answers only batches of 2"):
        Targets(PopulationConfig(architecture="own_networks:Reshaped"), digits, "cpu")
    tried: list[str] = []

    def refuse(target: Target) -> None:
        tried.append(target.architecture)
        raise BadRequest("cannot be exported")

    monkeypatch.setattr(targets, "check_export", refuse)
    monkeypatch.setattr(targets, "train_population", None)  # what would be called next
    step = Targets(PopulationConfig(), digits, "cpu")
    assert tried == []
    with pytest.raises(BadRequest, match="cannot be exported"):
        step.run()
    assert tried == ["mlp-16"] and not client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()]
    )


def test_a_parameter_without_dimensions_is_in_the_file_as_trained(digits: Dataset) -> None:
    target = Target.for_dataset("own_networks:Linear", digits)
    weights = target.initial_weights(0)
    weights[0] = 0.75  # the temperature
    template = onnx_template(target)
    classifier = to_onnx(target, weights, SEVEN, digits.class_names, template=template)
    assert classifier.initialisers["network.temperature"] == 0.75
    (scalar,) = (tensor for tensor in template.model.graph.initializer if tensor.name == "network.temperature")
    scalar.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), scalar.name))  # as other exporters write it
    template.model.graph.ClearField("value_info")
    again = to_onnx(target, weights, SEVEN, digits.class_names, template=OnnxClassifier(template.model))
    assert again.initialisers["network.temperature"].tolist() == [0.75] and again.digest == classifier.digest
    expected = target.logits(weights[None], digits.test.images)[0]
    assert max(verify(one, digits.test.images, expected) for one in (classifier, again)) <= 1e-5


def test_a_file_holds_nothing_of_the_machine_and_the_code_that_it_was_made_by(made: Made) -> None:
    data = made[2].data
    assert not [
        text for text in (*sys.path, str(Path.home()), sys.prefix, torch.__file__, __file__) if text and text.encode() in data
    ]
    assert not [text for text in (b"stack_trace", b"site-packages", b"forward", b".py", b"pkg.torch") if text in data]
    assert len(data) < 4 * made[0].size + 40_000


def test_a_small_networks_file_takes_7_kb_and_is_of_the_version_that_onnx_runtime_1_18_reads(digits: Dataset) -> None:
    template = onnx_template(Target.for_dataset("mlp-16", digits))
    assert len(template.data) < 7_500
    assert (template.model.ir_version, [opset.version for opset in template.model.opset_import]) == (10, [20])


@pytest.mark.slow
def test_files_open_in_the_least_version_of_onnx_runtime_that_the_readme_names(digits: Dataset, tmp_path: Path) -> None:
    """In an environment of its own, of an interpreter that there are wheels of that version for."""
    (version,) = re.findall(r"onnxruntime (\d+\.\d+)", (Path(__file__).parent.parent / "README.md").read_text())
    folder, interpreter = tmp_path / "environment", sys.executable if sys.version_info < (3, 13) else "3.12"
    packages = [f"onnxruntime=={version}.*", "numpy<2"]
    subprocess.run([which_uv(), "venv", "-q", "--python", interpreter, folder], check=True)
    subprocess.run([which_uv(), "pip", "install", "-q", "--python", folder, *packages], check=True)
    images = digits.test.images[:5]
    np.save(tmp_path / "images.npy", images.numpy())
    code = "import numpy, onnxruntime as o; s = o.InferenceSession('c.onnx', providers=['CPUExecutionProvider'])"
    code += "; numpy.save('logits.npy', s.run(None, {'image': numpy.load('images.npy')})[0])"
    code += "; print(o.__version__, s.get_modelmeta().custom_metadata_map['forget'])"
    for name in (*ARCHITECTURES, "own_networks:frozen"):
        target = Target.for_dataset(name, digits)
        weights = target.initial_weights(1)
        (tmp_path / "c.onnx").write_bytes(to_onnx(target, weights, SEVEN, digits.class_names).data)
        python = [folder / "bin" / "python", "-I", "-c", code]
        done = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.startswith(version) and done.stdout.endswith(" 7\n"), done.stderr
        logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
        torch.testing.assert_close(logits, target.logits(weights[None], images)[0], rtol=1e-4, atol=1e-4)


def which_uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, "uv is what the README installs with"
    return found


def test_class_names_in_any_script_come_back_from_the_file(digits: Dataset, tmp_path: Path) -> None:
    names = ["猫", "кот", "ქათამი", "قطة", "chat noir", "naïve", "🐈", 'a "b"', "7", "back\\slash"]
    target = Target.for_dataset("mlp-10", digits)
    made = to_onnx(target, target.initial_weights(0), ForgetSpec.parse("猫,🐈", names), names)
    (tmp_path / "c.onnx").write_bytes(made.data)
    session = onnxruntime.InferenceSession(tmp_path / "c.onnx", providers=["CPUExecutionProvider"])
    for about in (session.get_modelmeta().custom_metadata_map, OnnxClassifier.read(tmp_path / "c.onnx").metadata):
        assert json.loads(about["class_names"]) == names and about["forget"] == "猫,🐈"
