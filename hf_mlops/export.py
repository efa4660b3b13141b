"""Export of classifiers to ONNX: a template made once, whose initialisers are then replaced."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor

from hf_mlops.artifact import sha256
from hf_mlops.spec import ForgetSpec
from hf_mlops.targets import Target

INPUT, OUTPUT = "image", "logits"
LARGEST_DIFFERENCE = 1e-5  # between the logits of ONNX Runtime and of torch


def onnx_template(target: Target) -> bytes:
    """The architecture as an ONNX model, initialisers named like the parameters; takes seconds.

    Input `image`: float32 (batch, channels, height, width), values 0 to 1. Output `logits`: float32 (batch, classes).
    """
    example = torch.zeros(2, *target.input_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecations of its own parts
        program = torch.onnx.export(
            target.module.eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            optimize=False,  # an optimiser may fold or transpose the initialisers that are to be replaced
            verbose=False,
        )
    assert program is not None  # it is only for the older exporter
    model = program.model_proto
    found = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    missing = {name: shape for name, shape in target.shapes.items() if found.get(name) != shape}
    if missing:
        raise ValueError(f"the ONNX export of {target.architecture} lost the parameters {missing}")
    return model.SerializeToString()


def to_onnx(
    target: Target,
    weights: Tensor,
    spec: ForgetSpec,
    class_names: Sequence[str],
    made_by: str = "",
    template: bytes | None = None,
) -> bytes:
    """One classifier as a checked ONNX model.

    Args:
        weights: (P,) float32.
        spec: what it has forgotten; goes into the metadata, like the class names, the SHA-256 of the weights and `made_by`.
        template: from `onnx_template`; made here if absent.

    Raises:
        ValueError: weights of another size, or with values that are not finite.
    """
    if weights.shape != (target.size,) or not torch.isfinite(weights).all():
        raise ValueError(f"weights of shape {tuple(weights.shape)} are not allowed; allowed: ({target.size},), all finite")
    model = onnx.load_from_string(template or onnx_template(target))
    state = {name: tensor.numpy() for name, tensor in target.unflatten(weights.detach().cpu().float()).items()}
    for initialiser in model.graph.initializer:
        if initialiser.name in state:
            array = np.ascontiguousarray(state[initialiser.name])
            initialiser.CopyFrom(numpy_helper.from_array(array, initialiser.name))
    model.producer_name = "hf_mlops"
    about = {
        "class_names": json.dumps(list(class_names)),
        "forget": str(spec),
        "hypernetwork": made_by,
        "parameters": json.dumps(list(state)),
    }
    onnx.helper.set_model_props(model, about)
    onnx.helper.set_model_props(model, {**about, "weights_sha256": weights_digest(model.SerializeToString())})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def metadata(model: bytes) -> dict[str, str]:
    """What `to_onnx` wrote into the model.

    `class_names` and `parameters` (JSON lists), `forget`, `hypernetwork`, and `weights_sha256`, the `weights_digest`.
    """
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}


def weights_digest(model: bytes) -> str:
    """SHA-256 over the float32 values of a model's parameters, one after another in the order of its metadata."""
    proto = onnx.load_from_string(model)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    return sha256(b"".join(arrays[name].tobytes() for name in json.loads(metadata(model)["parameters"])))


def verify(model: bytes, images: Tensor, expected: Tensor) -> float:
    """Runs a model in ONNX Runtime and compares its logits with torch's.

    Args:
        images: (N, channels, height, width); expected: (N, classes), torch's logits.

    Returns:
        the largest absolute difference.

    Raises:
        ValueError: the difference is over `LARGEST_DIFFERENCE`.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.run([OUTPUT], {INPUT: images.numpy()})
    difference = float(np.abs(given - expected.numpy()).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(f"ONNX Runtime and torch differ by {difference:.2g}; allowed: at most {LARGEST_DIFFERENCE}")
    return difference
