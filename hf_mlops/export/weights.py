"""Weights of a target to a classifier in ONNX and back: a template is exported once, whose initialisers are then replaced."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from onnx import TensorProto, numpy_helper
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hf_mlops.base.artifact import Array
from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.base.tensor_file import KEPT, Held, header_of
from hf_mlops.export.graph import to_graph
from hf_mlops.population.networks import in_one_line
from hf_mlops.population.target import Target, listed
from hf_mlops.serving import bounded
from hf_mlops.serving.classifier import INPUT, OUTPUT, OnnxClassifier, alike
from hf_mlops.serving.layout import IN_MODULE, named_in_module

LARGEST_DIFFERENCE = 1e-5  # between the logits of ONNX Runtime and of torch, as a share of the largest logit or of 1
BATCHES_TRIED = (1, 3)  # images at once; the exporter is shown two

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")  # what torch.save is used to write
PREFIXES = (IN_MODULE, "module.", "_orig_mod.", "model.")  # which ONNX models, DataParallel, torch.compile, trainers put first
FLOATS = ("float32", "float16", "bfloat16", "float64")  # that weights may be kept in
OF_ONNX = {"FLOAT": "float32", "DOUBLE": "float64"}  # dtypes whose name is not that of NumPy


def onnx_template(target: Target) -> OnnxClassifier:
    """The architecture with its shared values, initialisers named as in `Target.module`; takes seconds.

    Raises:
        BadRequest: a network that cannot be exported for any number of images, or generated parameters that the exporter left
            out.
    """
    try:
        model = to_graph(target.module, {INPUT: torch.zeros(2, *target.input_shape)}, OUTPUT, optimize=False)
    except Exception as error:  # torch has no common class for what its exporter refuses
        raise BadRequest(f"{_no_target(target)} cannot be exported to ONNX: {in_one_line(_cause(error))}") from error
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise BadRequest(
            f"{_no_target(target)} answers only batches of {batch.dim_value} once it is exported to ONNX: len(x), or a loop"
            " over images, fixes their number; allowed: x.shape[0], as in x.reshape(x.shape[0], -1) or x.expand(x.shape[0], -1)"
        )
    template = OnnxClassifier(model, f"the template of {target.architecture}")
    try:
        bounded.require(model, template.name, bounded.CLASSIFIER)
    except DamagedArtifact as error:
        raise BadRequest(f"{_no_target(target)} cannot be exported to ONNX: {error}") from error
    found = {name: array.shape for name, array in template.initialisers.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in named_in_module(target.unflatten(torch.zeros(target.size))).items()}
    missing = {name: shape for name, shape in wanted.items() if not alike(found.get(name), shape)}
    if missing:
        raise BadRequest(f"the ONNX export of {target.architecture} lost the parameters {missing}")
    return template


def check_export(target: Target) -> None:
    """Refuses a target whose samples could not be exported to ONNX, before any is trained; takes a second or two.

    Raises:
        BadRequest: a network that cannot be exported, or that ONNX Runtime answers differently from torch, or not at all, for
            one of `BATCHES_TRIED`. The line names the cause.
    """
    generator = torch.Generator().manual_seed(0)
    weights = target.initial_weights(target.seed)
    weights = weights + 0.01 * torch.randn(weights.shape, generator=generator)  # not what the export may have kept of them
    names = tuple(map(str, range(target.classes)))
    try:
        classifier = to_onnx(target, weights, ForgetSpec((), names), names)
        for batch in BATCHES_TRIED:
            images = torch.rand(batch, *target.input_shape, generator=generator)
            verify(classifier, images, target.logits(weights[None], images)[0])
    except BadRequest:
        raise
    except Exception as error:  # ONNX Runtime has no common class for what it refuses
        text = str(error) if isinstance(error, (GateFailure, DamagedArtifact)) else in_one_line(error)
        raise BadRequest(f"{_no_target(target)} does not answer in ONNX as in torch: {' '.join(text.split())}") from error


def _no_target(target: Target) -> str:
    return f"architecture {target.architecture!r} cannot be a target: it"


def _cause(error: BaseException) -> BaseException:
    """The first of the exceptions that led to this one: the exporter's own says what to report to whom."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


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
    """Weights of a classifier from its ONNX model (.onnx) or its state dict (.safetensors), cast to float32.

    Names may stand behind any of `PREFIXES`, and shapes may differ in sides of 1.

    Raises:
        BadRequest: a file that cannot be read, or one with another architecture, quantised weights, or values that are not
            finite in float32; says what it holds and what is allowed.

    Warns:
        UserWarning: weights that were of another dtype, or shared values that are not the population's.
    """
    held = _tensors(file)
    given = {name: held.tensor(place) for name, place in _generated(file, held, target).items()}
    if cast := sorted({str(tensor.dtype).removeprefix("torch.") for tensor in given.values()} - {"float32"}):
        warnings.warn(f"{file} holds weights of {' and '.join(cast)}: they were cast to float32", stacklevel=2)
    weights = target.flatten({name: tensor.float().reshape(target.shapes[name]) for name, tensor in given.items()})
    if not weights.isfinite().all():
        raise BadRequest(f"{file} holds weights that are not finite in float32; allowed: all of them finite")
    shared = _places(held.says, target.shared)
    if other := [name for name, value in target.shared.items() if not all(_near(held, place, value) for place in shared[name])]:
        text = f"{file} holds other values than the population's targets share, of {', '.join(other[:8])}: they are left out"
        warnings.warn(text, stacklevel=2)
    return weights


class _Held:
    """The tensors in a file: what it says of each, and one read at a time.

    Args:
        says: dtype, by torch's name if it has one, and shape of each, by name.
        tensor: reads one.
    """

    def __init__(self, says: Mapping[str, Held], tensor: Callable[[str], Tensor]):
        self.says, self.tensor = says, tensor


def _generated(file: Path, held: _Held, target: Target) -> dict[str, str]:
    """Where a file holds a target's generated tensors, by its names for them; refuses a file that has others."""
    places, wrong = _places(held.says, target.shapes), []
    for name, where in places.items():
        if len(where) != 1:
            wrong.append(f"{name} is there as {' and as '.join(where)}" if where else f"{name} is not there")
        elif not _is_like(held.says[where[0]], target.shapes[name]):
            dtype, shape = held.says[where[0]]
            wrong.append(f"{where[0]} is {dtype} {shape}")
    if wrong:
        first = ", ".join(wrong[:4]) + (", …" if len(wrong) > 4 else "")
        raise BadRequest(
            f"{file} does not hold the weights of {target.architecture}: {first}; it holds"
            f" {listed({name: one.shape for name, one in held.says.items()})}; allowed: {listed(target.shapes)},"
            f" each once, of {', '.join(FLOATS)}"
        )
    return {name: place for name, (place,) in places.items()}


def _is_like(said: Held, shape: Sequence[int]) -> bool:
    """Whether a tensor may be taken for one of floats of this shape."""
    return said.dtype in FLOATS and alike(said.shape, shape)


def _near(held: _Held, place: str, shared: Tensor) -> bool:
    """Whether a file's tensor is the shared one, as far as half the precision can tell; counters are not looked at."""
    if not shared.is_floating_point():
        return True
    if not _is_like(held.says[place], shared.shape):
        return False
    return torch.allclose(held.tensor(place).float().view_as(shared), shared, rtol=1e-2, atol=1e-3)


def _tensors(file: Path) -> _Held:
    """All the tensors in a file, none of which has been made yet: those of another shape or dtype never are."""
    if file.suffix.lower() in PICKLES:
        write = f"safetensors.torch.save_file(torch.load({file.name!r}, weights_only=True), 'start.safetensors')"
        raise BadRequest(
            f"{file} is a pickle, which is not read: it may run code; allowed: .onnx, or .safetensors as by {write}"
        )
    try:
        if file.is_dir():
            raise IsADirectoryError("it is a folder")
        return _of_onnx(file) if file.suffix.lower() == ".onnx" else _of_safetensors(file)
    except (OSError, ValueError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise BadRequest(f"{file} holds no weights; allowed: an ONNX or a safetensors file ({text})") from error


def _of_onnx(file: Path) -> _Held:
    tensors = {tensor.name: tensor for tensor in bounded.read(file, bounded.START).graph.initializer}
    names = {name: TensorProto.DataType.Name(tensor.data_type) for name, tensor in tensors.items()}
    says = {name: Held(OF_ONNX.get(names[name], names[name].lower()), tuple(one.dims)) for name, one in tensors.items()}
    return _Held(says, lambda name: _tensor(numpy_helper.to_array(tensors[name])))


def _of_safetensors(file: Path) -> _Held:
    dtypes = {**KEPT, "BF16": "bfloat16"}
    says = {name: Held(dtypes.get(one.dtype, one.dtype), one.shape) for name, one in header_of(file).items()}

    def tensor(name: str) -> Tensor:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor(name)

    return _Held(says, tensor)


def _tensor(array: Array) -> Tensor:
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes, which torch does not know
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array.copy())


def _places(held: Iterable[str], wanted: Iterable[str]) -> dict[str, list[str]]:
    """Where a file holds each tensor that is wanted: under its name, else behind the fewest prefixes; none, or several."""
    places: dict[str, list[str]] = {name: [] for name in wanted}
    names = {name: name for name in held}
    while names and not all(places.values()):
        for name in (name for name, where in places.items() if not where):
            places[name] = [place for place, bare in names.items() if bare == name]
        shorter = ((place, bare, next(filter(bare.startswith, PREFIXES), "")) for place, bare in names.items())
        names = {place: bare.removeprefix(prefix) for place, bare, prefix in shorter if prefix}
    return places


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
