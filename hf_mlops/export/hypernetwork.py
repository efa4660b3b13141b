"""A trained hypernetwork to ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hf_mlops.export.graph import to_graph
from hf_mlops.export.weights import onnx_template
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.hypernet.spaces import WeightSpace
from hf_mlops.serving.hypernetwork import OnnxHypernetwork
from hf_mlops.serving.layout import Layout

ROWS = 3  # that the exporter is shown: no dimension of a graph, so that it is told apart


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
    """
    space, device = hypernetwork.space, hypernetwork.device
    tokens = torch.zeros(ROWS, space.tokens, space.width, device=device)
    width = hypernetwork.signal.width + hypernetwork.orders
    noisy = {"noisy": tokens, "time": torch.zeros(ROWS, device=device), "told": torch.zeros(ROWS, width, device=device)}
    graphs = {
        "denoiser": to_graph(hypernetwork.denoiser, noisy, "clean", optimize=True).SerializeToString(),
        "decoder": to_graph(_Decoder(space), {"tokens": tokens}, "weights", optimize=True).SerializeToString(),
        "template": onnx_template(hypernetwork.target).data,
    }
    shared = {name: tensor.cpu().numpy() for name, tensor in hypernetwork.target.shared.items()}
    layout = Layout(hypernetwork.target.shapes, shared)
    of = hypernetwork.sampler
    return OnnxHypernetwork(hypernetwork.groups, tuple(class_names), made_by, of.orders, of.prompts, of.signal, layout, graphs)
