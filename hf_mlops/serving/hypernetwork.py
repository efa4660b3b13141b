"""A hypernetwork in ONNX: it samples classifiers and finishes them, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from jaxtyping import Float, Float32

from hf_mlops.base import artifact
from hf_mlops.base.artifact import Array, arrays_of, sha256
from hf_mlops.base.config import config_from
from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.base.groups import Groups
from hf_mlops.base.losses import log_softmax
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.serving import bounded
from hf_mlops.serving.classifier import OnnxClassifier, open_session
from hf_mlops.serving.layout import Layout, named_in_module, unflatten
from hf_mlops.serving.prompts import PromptBook
from hf_mlops.serving.sampler import Sampler
from hf_mlops.serving.signal import LossSignal

NAME = "sampler"  # of its safetensors file and its JSON
GRAPHS = ("denoiser", "decoder", "template")  # names of its ONNX files
IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class OnnxHypernetwork:
    """What samples weights and makes classifiers of them, on the CPU.

    A row's answer does not depend on what is computed with it: each session has one thread, so that sums are always taken in
    one order, and it is the callers that are as many as there are cores.

    Args:
        groups: that can be forgotten.
        class_names: what the logits of its classifiers mean.
        made_from: the identity of the data that it was trained on.
        made_by: the run that trained it.
        orders, prompts, signal: as of a `Sampler`.
        layout: of its classifiers.
        graphs: the bytes of an ONNX model for each of `GRAPHS`.
    """

    groups: Groups
    class_names: tuple[str, ...]
    made_from: dict[str, str]
    made_by: str
    orders: int
    prompts: PromptBook
    signal: LossSignal
    layout: Layout
    graphs: Mapping[str, bytes]

    @cached_property
    def sampler(self) -> Sampler:
        """Samples weights."""
        denoiser, decoder = (open_session(self.graphs[name], threads=1) for name in ("denoiser", "decoder"))
        _, tokens, width = denoiser.get_inputs()[0].shape
        return Sampler(
            self.prompts,
            self.signal,
            self.orders,
            (tokens, width),
            self.layout.size,
            _run(denoiser),
            _run(decoder),
            threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        )

    @cached_property
    def template(self) -> OnnxClassifier:
        """The architecture of its classifiers, with the shared values."""
        return OnnxClassifier.parse(self.graphs["template"], "the template")

    def log_probabilities(
        self, weights: Float[np.ndarray, "models params"], images: Float[np.ndarray, "images channels height width"]
    ) -> Float[np.ndarray, "models images classes"]:
        """Of every class, as ONNX Runtime answers."""

        def logits(one: Float[np.ndarray, " params"]) -> Float32[np.ndarray, "images classes"]:
            classifier = self.template.holding(self._state(one))
            return np.concatenate([classifier.logits(part) for part in _parts(images)])

        return log_softmax(np.stack([logits(one) for one in weights]))

    def classifier(self, weights: Float[np.ndarray, " params"], spec: ForgetSpec, made_by: str = "") -> OnnxClassifier:
        """A classifier with these weights, checked; by default made by the run that trained the hypernetwork."""
        shared = named_in_module(self.layout.shared)
        return self.template.with_weights(self._state(weights), shared, spec, self.class_names, made_by or self.made_by)

    def _state(self, weights: Float[np.ndarray, " params"]) -> dict[str, Array]:
        """The generated parameters by their names in the template."""
        return named_in_module(unflatten(weights, self.layout.shapes))

    def save(self, folder: Path) -> None:
        """Writes an ONNX file for each graph, and beside them `sampler`.safetensors and .json, which seals them all."""
        for name, graph in self.graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph)
        parts = {"prompts": arrays_of(self.prompts), "signal": arrays_of(self.signal), "shared": self.layout.shared}
        about = {
            "groups": asdict(self.groups),
            "class_names": self.class_names,
            "made_from": self.made_from,
            "made_by": self.made_by,
            "orders": self.orders,
            "variant": self.signal.variant,
            "shapes": self.layout.shapes,
            "graphs": {name: sha256(graph) for name, graph in self.graphs.items()},
        }
        artifact.write(folder, NAME, artifact.joined(parts), about)

    @classmethod
    def read(cls, folder: Path) -> OnnxHypernetwork:
        """Reads what `save` wrote.

        Raises:
            DamagedArtifact: a missing, truncated or altered file, or one that holds more than it may.
        """
        arrays, about = artifact.read(folder, NAME)
        if sorted(about.get("graphs", ())) != sorted(GRAPHS):
            raise DamagedArtifact(f"{folder}/{NAME}.json names other graphs than {', '.join(GRAPHS)}")
        graphs = {name: _sealed(folder / f"{name}.onnx", digest) for name, digest in about["graphs"].items()}
        parts = artifact.parted(arrays)
        shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
        return cls(
            config_from(Groups, about["groups"]),
            tuple(about["class_names"]),
            about["made_from"],
            about["made_by"],
            about["orders"],
            PromptBook(**parts["prompts"]),
            LossSignal(about["variant"], **parts["signal"]),
            Layout(shapes, parts.get("shared", {})),
            graphs,
        )


def _parts(images: Float[np.ndarray, "images channels height width"]) -> list[np.ndarray]:
    """Images that are answered at once."""
    return [images[first : first + IMAGES_AT_ONCE] for first in range(0, len(images), IMAGES_AT_ONCE)]


def _sealed(file: Path, digest: str) -> bytes:
    """The bytes of an ONNX file, if they are those that were written, and of a graph as it is written here."""
    data = bounded.read_bytes(file)
    artifact.require_digest(file, sha256(data), digest, f"{NAME}.json")
    bounded.parse(data, str(file), bounded.CLASSIFIER if file.stem == "template" else bounded.GRAPH)
    return data


def _run(session: onnxruntime.InferenceSession) -> Any:
    """A session as a function of its inputs, in their order, to its one output."""
    names = [one.name for one in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]
