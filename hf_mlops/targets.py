"""Targets: the classifiers whose weights are generated, evaluated many at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from hf_mlops.data import Dataset, Split

Shape = tuple[int, int, int]


def _mlp(hidden: int) -> Callable[[Shape, int], nn.Module]:
    def build(shape: Shape, classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), hidden), nn.ReLU(), nn.Linear(hidden, classes))

    return build


def _cnn(shape: Shape, classes: int) -> nn.Module:
    after = prod(-(-side // 4) for side in shape[1:])  # two convolutions of stride 2
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * after, classes),
    )


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Module]] = {"mlp-16": _mlp(16), "mlp-32": _mlp(32), "cnn": _cnn}


class _Normalised(nn.Module):
    """A network behind its input normalisation, so that it takes images of values 0 to 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.network((image - self.mean) / self.std)


class Target:
    """One architecture, and the layout of its weights as a flat vector.

    Weights of M targets are an (M, P) float32 tensor: every parameter in `state_dict` order, flattened.

    Args:
        architecture: a name in `ARCHITECTURES`.
        input_shape: (channels, height, width) of one image.
        classes: number of logits.
        mean, std: normalisation of each channel, part of the network.

    Raises:
        ValueError: an unknown architecture.
    """

    def __init__(self, architecture: str, input_shape: Shape, classes: int, mean: list[float], std: list[float]):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture!r}; allowed: {', '.join(ARCHITECTURES)}")
        self.architecture, self.classes = architecture, classes
        self.input_shape: Shape = (input_shape[0], input_shape[1], input_shape[2])
        self.mean, self.std = list(mean), list(std)
        self.module = _Normalised(ARCHITECTURES[architecture](input_shape, classes), self.mean, self.std)
        self.module.requires_grad_(False)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self.module.state_dict().items()}
        self.size = sum(prod(shape) for shape in self.shapes.values())

    @classmethod
    def for_dataset(cls, architecture: str, dataset: Dataset) -> Target:
        """The architecture sized and normalised for a data set."""
        return cls(architecture, dataset.input_shape, len(dataset.class_names), *dataset.normalisation)

    @property
    def spec(self) -> dict:
        """What `Target(**spec)` needs to make this target again; JSON-ready."""
        return {
            "architecture": self.architecture,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
        }

    def to(self, device: torch.device) -> Target:
        """Moves the template module, in place."""
        self.module.to(device)
        return self

    def initial_weights(self, seed: int) -> Tensor:
        """Freshly initialised weights, (P,)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = ARCHITECTURES[self.architecture](self.input_shape, self.classes)
        return self.flatten(_Normalised(network, self.mean, self.std).state_dict())

    def flatten(self, state: dict[str, Tensor]) -> Tensor:
        """State dict (tensors with any leading dimensions alike) to weights, (..., P).

        Raises:
            ValueError: names or shapes that are not this architecture's.
        """
        given = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if given.keys() != self.shapes.keys() or any(
            given[name][len(given[name]) - len(shape) :] != shape for name, shape in self.shapes.items()
        ):
            raise ValueError(f"not the weights of {self.architecture}: got {given}, allowed: {self.shapes}")
        leading = next(len(given[name]) - len(shape) for name, shape in self.shapes.items())
        return torch.cat(
            [state[name].flatten(leading) if shape else state[name].unsqueeze(-1) for name, shape in self.shapes.items()], -1
        )

    def unflatten(self, weights: Tensor) -> dict[str, Tensor]:
        """Weights (..., P) to a state dict; each tensor a view with the same leading dimensions."""
        pieces = weights.split([prod(shape) for shape in self.shapes.values()], -1)
        return {name: piece.unflatten(-1, shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def logits(self, weights: Tensor, images: Tensor) -> Tensor:
        """Runs M targets on the same B images: (M, P), (B, channels, height, width) -> (M, B, classes)."""
        return self.stacked_logits(self.unflatten(weights), images)

    def stacked_logits(self, state: dict[str, Tensor], images: Tensor) -> Tensor:
        """`logits` for a state dict whose tensors have a leading dimension M."""
        return vmap(lambda one: functional_call(self.module, one, (images,)))(state)

    @torch.no_grad()
    def group_metrics(self, weights: Tensor, split: Split, groups: int, chunk: int = 512) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy and accuracy on every group.

        Args:
            weights: (M, P).
            split: data of the same device.
            groups: number G of groups.
            chunk: how many targets run at once; bounds the memory.

        Returns:
            losses (M, G) in nats and accuracies (M, G) in 0 to 1; NaN for a group that the split has no image of.
        """
        member = torch.nn.functional.one_hot(split.groups, groups).float()  # (N, G)
        member = member / member.sum(0)
        losses, accuracies = [], []
        for part in weights.split(chunk):
            logits = self.logits(part, split.images)  # (m, N, classes)
            labels = split.labels.expand(len(part), -1)  # (m, N)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
            losses.append(loss @ member)
            accuracies.append((logits.argmax(-1) == labels).float() @ member)
        return torch.cat(losses), torch.cat(accuracies)
