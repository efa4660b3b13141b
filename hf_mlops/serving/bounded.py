"""ONNX models: what a file may hold is bounded before ONNX Runtime, or anything else, makes use of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.base.tensor_file import require_size

LARGEST = 1 << 29  # bytes of a file
DOMAINS = ("", "ai.onnx")  # the standard, by both its names
DIMENSIONS = 8
HALF_BYTES = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}  # bits of what is packed

# what the graphs of a hypernetwork compute with, as any version of torch writes them
NETWORK = frozenset(
    re.findall(
        r"\w+",
        "Add Cast CastLike Concat Constant Cos Div Equal Erf Exp Expand Flatten Gather Gelu Gemm Identity "
        "LayerNormalization MatMul Max Min Mul Neg Pow Reciprocal ReduceMean ReduceSum Relu Reshape Shape Sigmoid Sin "
        "Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where ",
    )
)


@dataclass(frozen=True)
class Kind:
    """What a model may hold beside tensors: operators of the standard, without graphs in them as `If`, `Loop` and `Scan` have.

    Args:
        operators: that it may compute with; None: all of the standard.
        ours: whether this package has written it: then it says nothing of the machine and code that it was made by.
    """

    operators: frozenset[str] | None = None
    ours: bool = True


CLASSIFIER = Kind()  # users' networks may hold any operator
GRAPH = Kind(NETWORK)
START = Kind(ours=False)


def read(file: Path, kind: Kind) -> ModelProto:
    """The model in a file.

    Raises:
        DamagedArtifact: no such file, one that is too large, no model in it, or one that is not of this kind; says what it
            holds and what is allowed.
    """
    return parse(read_bytes(file), str(file), kind)


def read_bytes(file: Path) -> bytes:
    """What a file holds.

    Raises:
        DamagedArtifact: there is none, or it is too large.
    """
    try:
        require_size(file, LARGEST)
        return file.read_bytes()
    except OSError as error:
        raise DamagedArtifact(f"{file} cannot be read as an ONNX model: {error}") from error


def parse(data: bytes, name: str, kind: Kind) -> ModelProto:
    """The model that these are the bytes of; raises as `read`.

    Args:
        name: what messages call it.
    """
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise DamagedArtifact(f"{name} cannot be read as an ONNX model: {error}") from error
    require(model, name, kind)
    return model


def require(model: ModelProto, name: str, kind: Kind) -> None:
    """Holds a model against its kind; raises as `read`."""
    for wrong in _wrong(model, kind):
        raise DamagedArtifact(f"{name} {wrong}")


def _wrong(model: ModelProto, kind: Kind) -> Iterator[str]:
    """What is not allowed in a model, in words."""
    if model.functions:
        yield f"defines the function {model.functions[0].name!r}; allowed: none, operators of the standard alone"
    if model.training_info or model.graph.sparse_initializer:
        yield "holds training graphs or sparse tensors; allowed: a graph of nodes and dense tensors"
    for opset in model.opset_import:
        if opset.domain not in DOMAINS:
            yield f"asks for operators of the domain {opset.domain!r}; allowed: those of the standard"
    for tensor in model.graph.initializer:
        yield from _wrong_tensor(tensor)
    for node in model.graph.node:
        yield from _wrong_node(node, kind)
    if kind.ours:
        yield from _told(model)


def _wrong_node(node: NodeProto, kind: Kind) -> Iterator[str]:
    if node.domain not in DOMAINS:
        yield f"computes with {node.domain}::{node.op_type}; allowed: operators of the standard"
    if kind.operators is not None and node.op_type not in kind.operators:
        yield f"computes with {node.op_type}; allowed: {', '.join(sorted(kind.operators))}"
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            yield f"computes with {node.op_type}, which holds a graph of its own; allowed: operators that hold none"
        if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
            yield f"holds a sparse tensor in {node.op_type}; allowed: dense ones"
        for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors:
            yield from _wrong_tensor(tensor)


def _wrong_tensor(tensor: TensorProto) -> Iterator[str]:
    """By what it says of itself: its values are not looked at."""
    shape = tuple(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        yield f"keeps the tensor {tensor.name!r} in a file beside it, {place!r}; allowed: all tensors in the file itself"
        return
    if len(shape) > DIMENSIONS or min(shape, default=0) < 0:
        yield f"holds the tensor {tensor.name!r} of shape {shape}; allowed: up to {DIMENSIONS} sides, from 0"
        return
    try:
        dtype = TensorProto.DataType.Name(tensor.data_type)
        field, size = helper.tensor_dtype_to_field(tensor.data_type), helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError):
        yield f"holds the tensor {tensor.name!r} of the dtype {tensor.data_type}; allowed: those of the standard"
        return
    packed, values = HALF_BYTES.get(dtype), prod(shape)
    if tensor.HasField("raw_data"):
        found, wanted, unit = len(tensor.raw_data), ceil(values * (packed or 8 * size) / 8), "bytes"
    else:
        found, unit = len(getattr(tensor, field)), "values"
        wanted = ceil(values * packed / 8) if packed else values * (2 if dtype.startswith("COMPLEX") else 1)
    if found != wanted:
        yield f"holds the tensor {tensor.name!r} of shape {shape} and dtype {dtype} in {found} {unit}; allowed: {wanted}"


def _told(model: ModelProto) -> Iterator[str]:
    """What exporters tell of the machine and the code, stack traces with paths, in notes: a file of this package has none.

    Only the model as a whole has notes: what `OnnxClassifier.with_weights` says.
    """
    for message in _within(model):
        notes = {field.name for field, _ in message.ListFields()} & {"doc_string", "metadata_props"}
        if notes - ({"metadata_props"} if message is model else set()):
            kind = message.DESCRIPTOR.name.removesuffix("Proto").lower()
            yield f"holds notes on its {kind} {getattr(message, 'name', '')!r}; allowed: none, as hf_mlops writes its files"


def _within(message: Message) -> Iterator[Message]:
    """A message and all in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _within(part)
