"""Export of classifiers to ONNX: a template made once, whose initialisers are then replaced."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hf_mlops.base.artifact import sha256
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.population.target import IN_MODULE, Target, named_in_module

INPUT, OUTPUT = "image", "logits"
LARGEST_DIFFERENCE = 1e-5  # between the logits of ONNX Runtime and of torch, as a share of the largest logit


def onnx_template(target: Target) -> bytes:
    """The architecture with its shared values as an ONNX model, initialisers named as in `Target.module`; takes seconds.

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
    wanted = {name: tuple(tensor.shape) for name, tensor in named_in_module(target.unflatten(torch.zeros(target.size))).items()}
    missing = {name: shape for name, shape in wanted.items() if found.get(name) != shape}
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
    state = named_in_module(target.unflatten(weights.detach().cpu().float()))
    for initialiser in model.graph.initializer:
        if initialiser.name in state:
            array = np.ascontiguousarray(state[initialiser.name].numpy())
            initialiser.CopyFrom(numpy_helper.from_array(array, initialiser.name))
    held = {initialiser.name for initialiser in model.graph.initializer}
    model.producer_name = "hf_mlops"
    about = {
        "class_names": json.dumps(list(class_names)),
        "forget": str(spec),
        "hypernetwork": made_by,
        "parameters": json.dumps([*state, *(name for name in named_in_module(target.shared) if name in held)]),
    }
    onnx.helper.set_model_props(model, about)
    onnx.helper.set_model_props(model, {**about, "weights_sha256": weights_digest(model.SerializeToString())})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def metadata(model: bytes) -> dict[str, str]:
    """What `to_onnx` wrote into the model.

    `class_names` and `parameters`, generated ones and then shared ones (JSON lists), `forget`, `hypernetwork`, and
    `weights_sha256`, the `weights_digest`.
    """
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}


def weights_digest(model: bytes) -> str:
    """SHA-256 over the values of a model's parameters, one after another in the order of its metadata."""
    proto = onnx.load_from_string(model)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    return sha256(b"".join(arrays[name].tobytes() for name in json.loads(metadata(model)["parameters"])))


def read_weights(file: Path, target: Target) -> Tensor:
    """Weights (P,) of a classifier from its ONNX model (.onnx) or its state dict (.safetensors).

    Raises:
        ValueError: a file that cannot be read, or one that holds another architecture or values that are not finite.
    """
    try:
        if file.suffix == ".onnx":
            tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
            state = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
        else:
            state = load_file(file)
    except (OSError, DecodeError, SafetensorError) as error:
        raise ValueError(f"{file} holds no weights; allowed: an ONNX or a safetensors file ({error})") from error
    state = {name.removeprefix(IN_MODULE): tensor for name, tensor in state.items()}
    weights = target.flatten({name: state[name] for name in target.shapes if name in state})
    if weights.shape != (target.size,) or not weights.isfinite().all():
        raise ValueError(f"{file} holds weights {tuple(weights.shape)}; allowed: ({target.size},), all of them finite")
    return weights


def verify(model: bytes, images: Tensor, expected: Tensor) -> float:
    """Runs a model in ONNX Runtime and compares its logits with torch's.

    Args:
        images: (N, channels, height, width); expected: (N, classes), torch's logits.

    Returns:
        the largest difference, as a share of the largest logit.

    Raises:
        ValueError: it is over `LARGEST_DIFFERENCE`.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.run([OUTPUT], {INPUT: images.numpy()})
    difference = float(np.abs(given - expected.numpy()).max() / expected.abs().max().clamp_min(1))
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(f"ONNX Runtime and torch differ by {difference:.2g}; allowed: at most {LARGEST_DIFFERENCE}")
    return difference
