"""Targets: the classifiers whose weights are generated, evaluated many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.networks import Shape, build, check, in_scope, source_digest
from hf_mlops.serving.layout import named_in_module, unflatten

# Models run together on a batch take at most this many pixels: beyond it a CPU only misses its cache (a population of lenet
# on MNIST takes half the time for it), and a GPU runs out of memory.
IMAGES_AT_ONCE = 512
PIXELS_AT_ONCE = {"cpu": 2**21, "cuda": 2**27}


class _Normalised(nn.Module):
    """A network behind its input normalisation, so that it takes images of values 0 to 1."""

    input_mean: Tensor  # named so that ONNX has no operation of that name
    input_std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.register_buffer("input_mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("input_std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.network((image - self.input_mean) / self.input_std)


def listed(shapes: Mapping[str, Sequence[int]]) -> str:
    """Names and shapes of tensors, of the first eight: `1.weight (16, 64), 1.bias (16,)`; `nothing` if there are none."""
    first = [f"{name} {tuple(shape)}" for name, shape in list(shapes.items())[:8]]
    return ", ".join(first) + (f" and {len(shapes) - 8} more" if len(shapes) > 8 else "") or "nothing"


def difference(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> str:
    """Names and shapes that are in one of the two only: `it has 1.weight (64, 16); allowed here: 1.weight (16, 64)`."""
    odd = {name: shape for name, shape in found.items() if wanted.get(name) != shape}
    missed = {name: shape for name, shape in wanted.items() if found.get(name) != shape}
    return f"it has {listed(odd)}; allowed here: {listed(missed)}"


class Target:
    """One architecture, and the layout of its generated weights as a flat vector.

    Weights of M targets are an (M, P) float32 tensor: every parameter in scope, in the network's order, flattened. All else
    that the network holds, parameters out of scope and buffers, is shared: every target has the same values of it. Names are
    the network's own.

    Args:
        architecture: a name in `networks.ARCHITECTURES`, or `module:callable`.
        input_shape: (channels, height, width) of one image.
        classes: number of logits.
        mean, std: normalisation of each channel, part of the target.
        scope: which parameters are generated: patterns over their names, joined by commas (`networks.in_scope`).
        seed: of the shared initialisation, which the shared values come from.
        shapes, shared: generated parameters and shared values of a target that was made before; then the network is not built,
            nor a user's module imported, before logits are asked for.

    Raises:
        BadRequest: an architecture that cannot be a target (`networks.build`, `networks.check`), or a scope without parameters.
    """

    def __init__(
        self,
        architecture: str,
        input_shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        scope: str = "*",
        seed: int = 0,
        shapes: Mapping[str, Sequence[int]] | None = None,
        shared: dict[str, Tensor] | None = None,
    ):
        self.architecture, self.classes, self.scope, self.seed = architecture, classes, scope, seed
        self.input_shape: Shape = (input_shape[0], input_shape[1], input_shape[2])
        self.mean, self.std = list(mean), list(std)
        self.device = torch.device("cpu")
        self._module: nn.Module | None = None
        if shapes is None or shared is None:
            network = build(architecture, self.input_shape, classes, seed)
            values = dict(network.named_parameters())
            generated = in_scope(scope, values)
            check(network, architecture, generated, self.input_shape, classes)
            shapes = {name: tuple(values[name].shape) for name in generated}
            shared = {name: tensor.clone() for name, tensor in network.state_dict().items() if name not in shapes}
            self._module = _Normalised(network, self.mean, self.std)
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in shapes.items()}
        self.shared = shared
        self.size = sum(prod(shape) for shape in self.shapes.values())

    @classmethod
    def for_dataset(cls, architecture: str, dataset: Dataset, scope: str = "*", seed: int = 0) -> Target:
        """The architecture sized and normalised for a data set."""
        return cls(architecture, dataset.input_shape, len(dataset.class_names), *dataset.normalisation, scope, seed)

    @property
    def description(self) -> dict:
        """What `Target(**description, shared=shared)` needs to make this target again; JSON-ready."""
        return {
            "architecture": self.architecture,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "scope": self.scope,
            "seed": self.seed,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }

    @property
    def initialisation_digest(self) -> str:
        """Digest of what training starts from: the initial values and, of a user's own network, its source file."""
        tensors = [self.initial_weights(self.seed), *self.shared.values()]
        values = b"".join(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes() for tensor in tensors)
        return sha256(source_digest(self.architecture).encode() + values)

    @property
    def module(self) -> nn.Module:
        """The template: normalisation, and `module.network` with the shared values; built when it is first needed.

        Raises:
            BadRequest: the architecture cannot be built here, or is not what the shared values and shapes were made for.
        """
        if self._module is None:
            network = self._build(self.seed)
            network.load_state_dict(self.shared, strict=False)
            self._module = _Normalised(network, self.mean, self.std).to(self.device)
        return self._module

    def _build(self, seed: int) -> nn.Module:
        network = build(self.architecture, self.input_shape, self.classes, seed)
        found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        wanted = self.shapes | {name: tuple(tensor.shape) for name, tensor in self.shared.items()}
        if found != wanted:
            raise BadRequest(f"architecture {self.architecture!r} has changed: {difference(found, wanted)}")
        return network

    def to(self, device: torch.device) -> Target:
        """Moves the template module, in place; shared values are kept on the CPU too."""
        self.device = device
        if self._module is not None:
            self._module.to(device)
        return self

    def initial_weights(self, seed: int) -> Float[Tensor, " params"]:
        """Freshly initialised weights; a user's network comes with the values that its callable gives it."""
        values = dict(self._build(seed).named_parameters())
        return self.flatten({name: values[name].detach() for name in self.shapes})

    def state_dict(self, weights: Float[Tensor, " params"]) -> dict[str, Tensor]:
        """Weights of one target to the complete state dict of its network, shared values included."""
        return {**self.shared, **self.unflatten(weights)}

    def flatten(self, state: Mapping[str, Tensor]) -> Float[Tensor, "*batch params"]:
        """State dict, its tensors with any leading dimensions alike, to weights.

        Raises:
            BadRequest: names or shapes that are not this architecture's.
        """
        given = {name: tuple(tensor.shape) for name, tensor in state.items()}
        name, own = next(iter(self.shapes.items()))
        leading = len(given.get(name, own)) - len(own)
        batch = given.get(name, ())[: max(leading, 0)]
        if given != (wanted := {name: batch + shape for name, shape in self.shapes.items()}):
            raise BadRequest(f"not the weights of {self.architecture}: {difference(given, wanted)}")
        return torch.cat(
            [state[name].flatten(leading) if shape else state[name].unsqueeze(-1) for name, shape in self.shapes.items()], -1
        )

    def unflatten(self, weights: Float[Tensor, "*batch params"]) -> dict[str, Tensor]:
        """Weights to a state dict; each tensor a view with the same leading dimensions."""
        return unflatten(weights, self.shapes)

    def logits(
        self, weights: Float[Tensor, "models params"], images: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "models images classes"]:
        """Runs targets on the same images."""
        return self.stacked_logits(self.unflatten(weights), images)

    @torch.no_grad()
    def log_probabilities(
        self, weights: Float[Tensor, "models params"], images: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "models images classes"]:
        """Of every class, without gradients."""
        parts = [self.logits(weights, part).log_softmax(-1) for part in images.split(IMAGES_AT_ONCE)]
        return torch.cat(parts, 1)

    def stacked_logits(
        self, state: dict[str, Float[Tensor, "models ..."]], images: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, "models images classes"]:
        """`logits` for a state dict whose tensors have a leading dimension for the models."""
        module, named = self.module, named_in_module(state)  # a module that is still to be built must not be so under vmap
        at_once = max(1, PIXELS_AT_ONCE[images.device.type] // images.numel())
        run = vmap(lambda one: functional_call(module, one, (images,)))
        parts = zip(*(tensor.contiguous().split(at_once) for tensor in named.values()), strict=True)
        return torch.cat([run(dict(zip(named, part, strict=True))) for part in parts])
