"""The hidden layer: what a classifier has made of an image before its last layer, and the last layer itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from hf_mlops.base.errors import BadRequest
from hf_mlops.population.target import IMAGES_AT_ONCE, Target
from hf_mlops.serving.layout import IN_MODULE, named_in_module


def last_layer(target: Target) -> str:
    """Name of the `nn.Linear` whose outputs are the logits, in the target's network.

    Raises:
        BadRequest: the network ends in anything else, so that it has no last layer to be refitted.
    """
    called: list[tuple[str, nn.Module, Tensor]] = []
    parts = [(name, part) for name, part in target.module.named_modules() if any(True for _ in part.parameters(recurse=False))]
    handles = [
        part.register_forward_hook(lambda part, _, given, name=name: called.append((name, part, given))) for name, part in parts
    ]
    try:
        with torch.no_grad():
            logits = target.module(torch.zeros(1, *target.input_shape, device=target.device))
    finally:
        for handle in handles:
            handle.remove()
    name, part, given = called[-1] if called else ("", target.module, logits)
    if not isinstance(part, nn.Linear) or not torch.equal(given, logits):
        last = f"{name.removeprefix(IN_MODULE)} ({type(part).__name__})"
        raise BadRequest(
            f"architecture {target.architecture!r} has no last layer that could be refitted: its logits do not come straight"
            f" from an nn.Linear, its last layer with parameters is {last}; allowed: networks that end in one"
        )
    return name.removeprefix(IN_MODULE)


@torch.no_grad()
def hidden(
    target: Target, weights: Float[Tensor, "models params"], images: Float[Tensor, "images channels height width"]
) -> Float[Tensor, "models images hidden"]:
    """What goes into the last layer.

    Raises:
        BadRequest: a network without one (`last_layer`).
    """
    layer, seen = target.module.get_submodule(IN_MODULE + last_layer(target)), []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        for one in weights:
            for part in images.split(IMAGES_AT_ONCE):
                functional_call(target.module, named_in_module(target.unflatten(one)), (part,))
    finally:
        handle.remove()
    return torch.cat(seen).unflatten(0, (len(weights), len(images)))
