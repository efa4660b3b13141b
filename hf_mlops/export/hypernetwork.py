"""A trained hypernetwork to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from hf_mlops.base.errors import GateFailure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.export.graph import to_graph
from hf_mlops.export.weights import onnx_template, verify
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.hypernet.spaces import WeightSpace
from hf_mlops.serving import bounded
from hf_mlops.serving.hypernetwork import OnnxHypernetwork
from hf_mlops.serving.layout import Layout
from hf_mlops.serving.sampler import Wanted

ROWS = 3  # that the exporter is shown: no dimension of a graph, so that it is told apart
LARGEST_WEIGHT_DIFFERENCE = 1e-4  # between samples of ONNX Runtime and of torch


class _Decoder(nn.Module):
    """A weight space as a module that decodes."""

    def __init__(self, space: WeightSpace):
        super().__init__()
        self.space = space

    def forward(self, tokens: Tensor) -> Tensor:
        return self.space.decode(tokens)


def to_onnx_hypernetwork(hypernetwork: Hypernetwork, class_names: Sequence[str], made_by: str = "") -> OnnxHypernetwork:
    """What samples as the hypernetwork does, without torch; takes about ten seconds.

    Args:
        class_names: what the logits of its classifiers mean.
        made_by: the run that trained it; goes into the metadata of classifiers.

    Raises:
        GateFailure: it does not sample the same, or its classifiers do not answer the same.
    """
    denoiser, space = deepcopy(hypernetwork.denoiser).cpu(), deepcopy(hypernetwork.space).cpu()
    tokens = torch.zeros(ROWS, space.tokens, space.width)
    noisy = {"noisy": tokens, "time": torch.zeros(ROWS), "told": torch.zeros(ROWS, hypernetwork.told)}
    graphs = {
        "denoiser": _graph(denoiser, noisy, "clean"),
        "decoder": _graph(_Decoder(space), {"tokens": tokens}, "weights"),
        "template": onnx_template(hypernetwork.target).data,
    }
    shared = {name: tensor.cpu().numpy() for name, tensor in hypernetwork.target.shared.items()}
    own = hypernetwork.sampler
    made = OnnxHypernetwork(
        hypernetwork.groups,
        tuple(class_names),
        hypernetwork.made_from,
        made_by,
        own.orders,
        own.prompts,
        own.signal,
        Layout(hypernetwork.target.shapes, shared),
        graphs,
    )
    _verify(made, hypernetwork)
    return made


def _graph(module: nn.Module, examples: dict[str, Tensor], output: str) -> bytes:
    """A part of a hypernetwork as an ONNX file that can be read again."""
    model = to_graph(module, examples, output, optimize=True)
    bounded.require(model, output, bounded.GRAPH)
    return model.SerializeToString()


def _verify(made: OnnxHypernetwork, hypernetwork: Hypernetwork) -> None:
    """Holds a sample against torch's, and what it answers to images of chance."""
    spec = ForgetSpec.of([0], hypernetwork.groups.names)
    weights, expected = made.sampler.sample([Wanted(spec)])[0].weights, hypernetwork.sample(spec).weights
    off = float(np.abs(weights - expected.numpy()).max())
    if not off <= LARGEST_WEIGHT_DIFFERENCE:
        raise GateFailure(f"ONNX Runtime and torch sample weights {off:.2g} apart; allowed: {LARGEST_WEIGHT_DIFFERENCE}")
    images = torch.rand(ROWS, *hypernetwork.target.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = hypernetwork.target.logits(torch.from_numpy(weights), images)[0]
    verify(made.classifier(weights[0], spec), images, logits)
