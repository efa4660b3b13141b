"""What files may hold is bounded before a tensor is made of them or ONNX Runtime opens them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from planted import PICKLE

from hf_mlops import Dataset, Target
from hf_mlops.base import artifact, tensor_file
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.export.weights import onnx_template, read_weights
from hf_mlops.serving import bounded
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.serving.hypernetwork import OnnxHypernetwork


def model(*nodes: onnx.NodeProto, **of_model: object) -> ModelProto:
    """logits = image + bias, after further nodes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("image", "logits")]
    bias = numpy_helper.from_array(np.float32([1, 2]), "bias")
    add = helper.make_node("Add", ["image", "bias"], ["logits"])
    graph = helper.make_graph([*nodes, add], "plain", ends[:1], ends[1:], [bias])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], **of_model)


def branch(value: float) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["out"], value_float=value)
    return helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [])])


def with_function() -> ModelProto:
    body = [helper.make_node("Neg", ["x"], ["y"])]
    return model(functions=[helper.make_function("mine", "Negate", ["x"], ["y"], body, [helper.make_opsetid("", 17)])])


def with_bias(change: Callable[[TensorProto], object]) -> ModelProto:
    made = model()
    change(made.graph.initializer[0])
    return made


def set_dims(*dims: int) -> Callable[[TensorProto], object]:
    return lambda tensor: tensor.dims.__setitem__(slice(None), dims)


def external(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def values_apart(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1, 2, 3])


def with_domain() -> ModelProto:
    made = model()
    made.opset_import.add(domain="com.mine", version=1)
    return made


LOOP = helper.make_node("Loop", ["", ""], ["many"], body=branch(1))
TOO_BIG = helper.make_node("Constant", [], ["huge"], value=with_bias(set_dims(1 << 40)).graph.initializer[0])
SPARSE = helper.make_node(
    "Constant",
    [],
    ["few"],
    sparse_value=helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([1]), "v"), numpy_helper.from_array(np.int64([0]), "i"), [9]
    ),
)

BAD = {
    "a function": (with_function(), "defines the function 'Negate'; allowed: none"),
    "a domain": (with_domain(), "asks for operators of the domain 'com.mine'; allowed: those of the standard"),
    "an operator": (
        model(helper.make_node("Run", ["image"], ["ran"], domain="com.mine")),
        "computes with com.mine::Run; allowed: operators of the standard",
    ),
    "if": (
        model(helper.make_node("If", ["yes"], ["out"], then_branch=branch(1), else_branch=branch(2))),
        "computes with If, which holds a graph of its own; allowed: operators that hold none",
    ),
    "loop": (model(LOOP), "computes with Loop, which holds a graph of its own"),
    "a file beside it": (
        with_bias(external),
        "keeps the tensor 'bias' in a file beside it, '../../etc/passwd'; allowed: all tensors in the file itself",
    ),
    "too few bytes": (
        with_bias(set_dims(1 << 40)),
        r"holds the tensor 'bias' of shape \(1099511627776,\) and dtype FLOAT in 8 bytes; allowed: 4398046511104",
    ),
    "too many bytes": (with_bias(set_dims(1)), r"of shape \(1,\) and dtype FLOAT in 8 bytes; allowed: 4"),
    "too many values": (with_bias(values_apart), r"of shape \(2,\) and dtype FLOAT in 3 values; allowed: 2"),
    "a side below 0": (with_bias(set_dims(-1, -2)), r"of shape \(-1, -2\); allowed: up to 8 sides, from 0"),
    "many sides": (with_bias(set_dims(*[1] * 8, 2)), "allowed: up to 8 sides"),
    "no dtype": (with_bias(lambda tensor: setattr(tensor, "data_type", 99)), "of the dtype 99; allowed: those of the standard"),
    "a constant": (model(TOO_BIG), r"holds the tensor 'bias' of shape \(1099511627776,\)"),
    "a sparse constant": (model(SPARSE), "holds a sparse tensor in Constant; allowed: dense ones"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", [bounded.CLASSIFIER, bounded.START], ids=["ours", "a user's"])
def test_an_onnx_file_that_is_no_plain_network_is_refused_by_what_it_holds(
    bad: str, kind: bounded.Kind, tmp_path: Path
) -> None:
    (tmp_path / "bad.onnx").write_bytes(BAD[bad][0].SerializeToString())
    with pytest.raises(DamagedArtifact, match=f"bad.onnx .*{BAD[bad][1]}"):
        OnnxClassifier.read(tmp_path / "bad.onnx", kind)


def test_a_file_of_ours_says_nothing_of_where_it_was_made_and_a_users_may(tmp_path: Path) -> None:
    file = tmp_path / "told.onnx"
    for place in ("node", "initializer", "input"):
        made = model()
        getattr(made.graph, place)[0].doc_string = "/home/me/net.py:7"
        file.write_bytes(made.SerializeToString())
        with pytest.raises(DamagedArtifact, match=r"told.onnx holds notes on its \w+ '\w*'; allowed: none"):
            OnnxClassifier.read(file)
        OnnxClassifier.read(file, bounded.START)


def test_a_graph_of_a_hypernetwork_computes_with_what_networks_are_written_in_alone() -> None:
    tiled = model(helper.make_node("Tile", ["image", "times"], ["more"]))
    bounded.require(tiled, "it", bounded.CLASSIFIER)
    with pytest.raises(DamagedArtifact, match=r"it computes with Tile; allowed: Add, Cast, .*, Where$"):
        bounded.require(tiled, "it", bounded.GRAPH)


def test_a_file_that_is_too_large_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("big.onnx", "big.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate((1 << 30) + 1)  # takes no room
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(DamagedArtifact, match=r"big.onnx has 1073741825 bytes; allowed: up to 536870912"):
        OnnxClassifier.read(tmp_path / "big.onnx")
    with pytest.raises(DamagedArtifact, match=r"big.safetensors has 1073741825 bytes; allowed: up to 1073741824"):
        tensor_file.header_of(tmp_path / "big.safetensors")


def test_packed_and_complex_tensors_are_counted_as_they_are_kept() -> None:
    for kind, values in ((TensorProto.INT4, [1, 2, 3]), (TensorProto.COMPLEX64, [1j, 2, 3]), (TensorProto.BFLOAT16, [1, 2, 3])):
        tensor = helper.make_tensor("odd", kind, [3], values)
        made = model()
        made.graph.initializer.append(tensor)
        bounded.require(made, "it", bounded.START)
        tensor.dims[0] = 5
        made.graph.initializer[1].CopyFrom(tensor)
        with pytest.raises(DamagedArtifact, match=r"'odd' of shape \(5,\)"):
            bounded.require(made, "it", bounded.START)


def test_a_users_network_that_branches_is_refused_before_any_is_trained(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mlops.export.weights.to_graph", lambda *arguments, **options: model(LOOP))
    with pytest.raises(BadRequest, match=r"'mlp-10' cannot be a target: it cannot be exported to ONNX: .* with Loop"):
        onnx_template(Target.for_dataset("mlp-10", digits))


# safetensors


def kept(folder: Path, **arrays: np.ndarray) -> Path:
    """A file as this package writes it."""
    artifact.write(folder, "thing", arrays, {})
    return folder / "thing.safetensors"


def sealed_anew(file: Path, data: bytes) -> None:
    """Puts other bytes in a file, with a digest that is right."""
    file.write_bytes(data)
    about = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**about, "sha256": artifact.sha256(data)}))


def with_header(header: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PICKLE, r"has a header of \d+ bytes, if it is safetensors; allowed: up to 1048576"),
        (
            (1 << 21).to_bytes(8, "little") + b" " * (1 << 21),
            "has a header of 2097152 bytes, if it is safetensors; allowed: up",
        ),
        (
            safetensors.torch.save({"x": torch.zeros(2, dtype=torch.bfloat16)}),
            "x is of BF16; allowed: BOOL, F16, F32, F64, I8,",
        ),
        (safetensors.numpy.save({"x": np.zeros([1] * 9, np.float32)}), "x has 9 dimensions; allowed: up to 8"),
        (with_header({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}}, bytes(8)), "cannot be read: .*"),
        (with_header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]}}, bytes(8)), "cannot be read: .*"),
        (b"", "cannot be read: "),
    ],
    ids=["a pickle", "a long header", "a dtype", "dimensions", "a shape", "an end", "empty"],
)
def test_a_safetensors_file_is_refused_by_its_header_before_any_tensor_is_made(
    data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kept(tmp_path, x=np.zeros(2, np.float32))
    sealed_anew(file, data)
    monkeypatch.setattr(artifact, "load_file", lambda file: pytest.fail("it was read"))
    with pytest.raises(DamagedArtifact, match=rf"thing.safetensors.*{message}"):
        artifact.read(tmp_path, "thing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "cannot be read: RecursionError"),
        ("[]", "holds list; allowed: a JSON object"),
        (" " * (1 << 24) + "{}", "has 16777218 bytes; allowed: up to 16777216"),
        ("\udcff", "cannot be read: UnicodeDecodeError"),
    ],
    ids=["deep", "a list", "large", "no text"],
)
def test_a_description_is_bounded_as_well(text: str, message: str, tmp_path: Path) -> None:
    kept(tmp_path, x=np.zeros(2))
    (tmp_path / "thing.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DamagedArtifact, match=message):
        artifact.read(tmp_path, "thing")


def test_start_weights_are_made_only_of_tensors_of_the_right_shape_and_dtype(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target.for_dataset("mlp-16", digits)
    state = target.state_dict(target.initial_weights(0))
    safetensors.torch.save_file({**state, "another": torch.zeros(1000)}, tmp_path / "s.safetensors")
    made: list[str] = []
    whole = safetensors.safe_open

    class Watched:
        def __init__(self, *arguments: object):
            self.opened = whole(*arguments)

        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *error: object) -> None: ...

        def get_tensor(self, name: str) -> torch.Tensor:
            made.append(name)
            return self.opened.get_tensor(name)

    monkeypatch.setattr("hf_mlops.export.weights.safe_open", Watched)
    assert torch.equal(read_weights(tmp_path / "s.safetensors", target), target.initial_weights(0))
    assert sorted(made) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    made.clear()
    safetensors.torch.save_file({**state, "1.weight": torch.zeros(16, 65)}, tmp_path / "s.safetensors")
    with pytest.raises(BadRequest, match=r"1.weight is float32 \(16, 65\)"):
        read_weights(tmp_path / "s.safetensors", target)
    assert made == []


def test_start_weights_from_an_onnx_file_stay_away_from_other_files_and_domains(digits: Dataset, tmp_path: Path) -> None:
    target = Target.for_dataset("mlp-16", digits)
    for name, message in (("a file beside it", "keeps the tensor 'bias' in a file"), ("a domain", "of the domain 'com.mine'")):
        (tmp_path / "start.onnx").write_bytes(BAD[name][0].SerializeToString())
        with pytest.raises(BadRequest, match=f"start.onnx holds no weights; allowed: .* {message}"):
            read_weights(tmp_path / "start.onnx", target)


def test_graphs_of_a_hypernetwork_are_bounded_before_onnx_runtime_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though their digests are right."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: pytest.fail("it was opened"))
    good = model().SerializeToString()
    for name in ("denoiser", "decoder", "template"):
        graphs = dict.fromkeys(("denoiser", "decoder", "template"), good)
        graphs[name] = BAD["loop"][0].SerializeToString()
        for graph, data in graphs.items():
            (tmp_path / f"{graph}.onnx").write_bytes(data)
        about = {"graphs": {graph: artifact.sha256(data) for graph, data in graphs.items()}}
        artifact.write(tmp_path, "sampler", {"x": np.zeros(1)}, about)
        with pytest.raises(DamagedArtifact, match=rf"{name}.onnx computes with Loop"):
            OnnxHypernetwork.read(tmp_path)
