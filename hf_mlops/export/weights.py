"""Weights of a target to a classifier in ONNX and back: a template is exported once, whose initialisers are then replaced."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hf_mlops.base.errors import BadRequest, GateFailure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.population.target import IN_MODULE, Target, named_in_module
from hf_mlops.serving.classifier import INPUT, OUTPUT, OnnxClassifier

LARGEST_DIFFERENCE = 1e-5  # between the logits of ONNX Runtime and of torch, as a share of the largest logit or of 1


def onnx_template(target: Target) -> OnnxClassifier:
    """The architecture with its shared values, initialisers named as in `Target.module`; takes seconds.

    Raises:
        BadRequest: generated parameters that the exporter left out.
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
    template = OnnxClassifier(program.model_proto, f"the template of {target.architecture}")
    found = {name: array.shape for name, array in template.initialisers.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in named_in_module(target.unflatten(torch.zeros(target.size))).items()}
    missing = {name: shape for name, shape in wanted.items() if found.get(name) != shape}
    if missing:
        raise BadRequest(f"the ONNX export of {target.architecture} lost the parameters {missing}")
    return template


def to_onnx(
    target: Target,
    weights: Float[Tensor, " params"],
    spec: ForgetSpec,
    class_names: Sequence[str],
    made_by: str = "",
    template: OnnxClassifier | None = None,
) -> OnnxClassifier:
    """One classifier as a checked ONNX model.

    Args:
        spec: what it has forgotten; goes into the metadata, like the class names, the SHA-256 of the weights and `made_by`.
        template: from `onnx_template`; made here if absent.

    Raises:
        BadRequest: weights of another size, or with values that are not finite, or the template of another architecture.
    """
    if weights.shape != (target.size,) or not torch.isfinite(weights).all():
        raise BadRequest(f"weights of shape {tuple(weights.shape)} are not allowed; allowed: ({target.size},), all finite")
    state = named_in_module(target.unflatten(weights.detach().cpu().float()))
    return (template or onnx_template(target)).with_weights(
        {name: tensor.numpy() for name, tensor in state.items()}, named_in_module(target.shared), spec, class_names, made_by
    )


def read_weights(file: Path, target: Target) -> Float[Tensor, " params"]:
    """Weights of a classifier from its ONNX model (.onnx) or its state dict (.safetensors).

    Raises:
        BadRequest: a file that cannot be read, or one that holds another architecture or values that are not finite.
    """
    try:
        if file.suffix == ".onnx":
            arrays = OnnxClassifier.read(file).initialisers
            state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        else:
            state = load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadRequest(f"{file} holds no weights; allowed: an ONNX or a safetensors file ({error})") from error
    state = {name.removeprefix(IN_MODULE): tensor for name, tensor in state.items()}
    weights = target.flatten({name: state[name] for name in target.shapes if name in state})
    if weights.shape != (target.size,) or not weights.isfinite().all():
        raise BadRequest(f"{file} holds weights {tuple(weights.shape)}; allowed: ({target.size},), all of them finite")
    return weights


def verify(
    classifier: OnnxClassifier,
    images: Float[Tensor, "images channels height width"],
    expected: Float[Tensor, "images classes"],
) -> float:
    """Compares a classifier's logits in ONNX Runtime with torch's.

    Args:
        expected: torch's logits.

    Returns:
        the largest difference, as a share of the largest logit, or of 1 if all are smaller.

    Raises:
        GateFailure: it is over `LARGEST_DIFFERENCE`.
    """
    given = classifier.logits(images.numpy())
    difference = float(np.abs(given - expected.numpy()).max() / expected.abs().max().clamp_min(1))
    if not difference <= LARGEST_DIFFERENCE:
        raise GateFailure(f"ONNX Runtime and torch differ by {difference:.2g}; allowed: at most {LARGEST_DIFFERENCE}")
    return difference
