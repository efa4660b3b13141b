"""A classifier in ONNX: made from a template by replacing its weights, read, checked and run without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float, Float32
from onnx import numpy_helper

from hf_mlops.base.artifact import Array, sha256
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.serving import bounded

INPUT, OUTPUT = "image", "logits"


class OnnxClassifier:
    """A classifier as an ONNX model; its bytes, tensors and session are made once, when first asked for.

    Input `image`: float32 (images, channels, height, width), values 0 to 1. Output `logits`: float32 (images, classes).

    Args:
        model: as parsed; not to be changed any more.
        name: what messages call it.
    """

    def __init__(self, model: onnx.ModelProto, name: str = "the classifier"):
        self.model, self.name = model, name

    @classmethod
    def read(cls, file: Path, kind: bounded.Kind = bounded.CLASSIFIER) -> OnnxClassifier:
        """The classifier in a file.

        Raises:
            DamagedArtifact: no such file, no ONNX model in it, or one that holds more than this kind may.
        """
        return cls(bounded.read(file, kind), str(file))

    @classmethod
    def parse(cls, data: bytes, name: str) -> OnnxClassifier:
        """The classifier that these are the bytes of; raises as `read`."""
        return cls(bounded.parse(data, name, bounded.CLASSIFIER), name)

    @cached_property
    def data(self) -> bytes:
        """The model as the bytes of an ONNX file."""
        return self.model.SerializeToString()

    @cached_property
    def file_digest(self) -> str:
        """SHA-256 of `data`, and so of every file that the model is written to: of operators, constants and metadata too."""
        return sha256(self.data)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What `with_weights` wrote into the model; empty for a template.

        `class_names` and `parameters`, generated ones and then shared ones (JSON lists), `forget`, `hypernetwork`, and
        `weights_sha256`, the `digest`.
        """
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @cached_property
    def initialisers(self) -> dict[str, Array]:
        """The model's tensors by name: its parameters, and the constants that it computes with."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the values of the parameters, one after another in the order of the metadata.

        Raises:
            DamagedArtifact: a model whose metadata name no parameters, or others than it holds.
        """
        try:
            return _digest(self.initialisers[name] for name in json.loads(self.metadata["parameters"]))
        except KeyError as error:
            raise DamagedArtifact(f"{self.name} was not made by hf_mlops: it has no {error}") from error

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        _, channels, height, width = (size.dim_value for size in self.model.graph.input[0].type.tensor_type.shape.dim)
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value

    def with_weights(
        self,
        weights: Mapping[str, Array],
        shared: Iterable[str],
        spec: ForgetSpec,
        class_names: Sequence[str],
        made_by: str,
    ) -> OnnxClassifier:
        """A classifier of this architecture, checked.

        Args:
            weights: new values of initialisers, by name; a shape may differ from the model's in sides of 1.
            shared: names of parameters that keep the values they have here.
            spec, class_names, made_by: what it has forgotten, what its logits mean, which hypernetwork made it. They go into
                the metadata, like the names of the parameters and the digest of their values.

        Raises:
            BadRequest: weights under names or of shapes that are not this model's.
        """
        made = self.holding(weights)
        made.model.producer_name = "hf_mlops"
        values = {**self.initialisers, **weights}
        parameters = [*weights, *(name for name in shared if name in values)]
        about = {
            "class_names": json.dumps(list(class_names)),
            "forget": str(spec),
            "hypernetwork": made_by,
            "parameters": json.dumps(parameters),
            "weights_sha256": _digest(values[name] for name in parameters),
        }
        onnx.helper.set_model_props(made.model, about)
        made.check()
        return made

    def holding(self, weights: Mapping[str, Array]) -> OnnxClassifier:
        """This model with other values of initialisers, given by name; a shape may differ from the model's in sides of 1.

        Raises:
            BadRequest: weights under names or of shapes that are not this model's.
        """
        shapes = {tensor.name: tuple(tensor.dims) for tensor in self.model.graph.initializer}
        if odd := {name: array.shape for name, array in weights.items() if not alike(shapes.get(name), array.shape)}:
            raise BadRequest(f"{self.name} does not hold {odd}; allowed: {shapes}")
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].reshape(shapes[tensor.name]), tensor.name))
        return OnnxClassifier(model)

    def check(self) -> None:
        """Holds the model against the ONNX standard.

        Raises:
            DamagedArtifact: it breaks it.
        """
        try:
            onnx.checker.check_model(self.data, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise DamagedArtifact(f"{self.name} is no valid ONNX model: {error}") from error

    def logits(self, images: Float[np.ndarray, "images channels height width"]) -> Float32[np.ndarray, "images classes"]:
        """What ONNX Runtime answers, on the CPU.

        Args:
            images: float32, values 0 to 1.

        Raises:
            BadRequest: images of another shape or dtype.
        """
        if images.shape[1:] != self.input_shape or images.dtype != np.float32:
            raise BadRequest(
                f"{images.dtype} images of shape {images.shape} are not allowed; allowed: float32 (images, *{self.input_shape})"
            )
        (logits,) = self._session.run([OUTPUT], {INPUT: images})
        return logits

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return open_session(self.data)


def open_session(data: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """What runs an ONNX model on the CPU, with so many threads, or as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its warnings are of its own optimisations, its errors are raised
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def alike(one: Sequence[int] | None, other: Sequence[int] | None) -> bool:
    """Whether two shapes are one but for sides of 1, which exporters add and drop: () and (1,), never (2, 3) and (3, 2)."""
    return one is not None and other is not None and [n for n in one if n != 1] == [n for n in other if n != 1]


def _digest(arrays: Iterable[Array]) -> str:
    return sha256(b"".join(array.tobytes() for array in arrays))
