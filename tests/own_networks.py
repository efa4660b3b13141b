"""Networks as users bring them: one that can be a target, and ones that cannot."""

from __future__ import annotations

import warnings
from math import prod

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]


class Small(nn.Module):
    """A frozen batch norm as buffers, a scalar parameter, and a head."""

    def __init__(self, shape: Shape, classes: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(shape[0], 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * prod((side - 3) // 2 + 1 for side in shape[1:]), classes)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.head(self.body(images))


def frozen(shape: Shape, classes: int) -> nn.Module:
    network = Small(shape, classes).eval()
    network.body[1].running_mean.fill_(0.25)
    return network


def linear(shape: Shape, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), classes))


def raises(shape: Shape, classes: int) -> nn.Module:
    raise RuntimeError("the weights' file is missing")


def no_module(shape: Shape, classes: int) -> object:
    return "a network"


def no_parameters(shape: Shape, classes: int) -> nn.Module:
    return nn.Flatten()


def double(shape: Shape, classes: int) -> nn.Module:
    return linear(shape, classes).double()


def not_finite(shape: Shape, classes: int) -> nn.Module:
    network = linear(shape, classes)
    network[1].bias.data[0] = torch.nan
    return network


def tied(shape: Shape, classes: int) -> nn.Module:
    network = nn.Sequential(*linear(shape, 7), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7), nn.Linear(7, classes))
    network[4].weight = network[2].weight
    return network


def too_many_logits(shape: Shape, classes: int) -> nn.Module:
    return linear(shape, classes + 1)


def another_input(shape: Shape, classes: int) -> nn.Module:
    return linear((3, 224, 224), classes)


def in_training(shape: Shape, classes: int) -> nn.Module:
    return Small(shape, classes)


def dropout(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), *linear(shape, classes))


def batch_statistics(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(shape[0], track_running_stats=False), *linear(shape, classes))


class Branching(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if self[1].bias.sum() > 0 else -logits


def branching(shape: Shape, classes: int) -> nn.Module:
    return Branching(*linear(shape, classes))


class Idle(nn.Sequential):
    def __init__(self, *layers: nn.Module):
        super().__init__(*layers)
        self.unused = nn.Parameter(torch.zeros(3))


def idle(shape: Shape, classes: int) -> nn.Module:
    return Idle(*linear(shape, classes))


class Linear(nn.Module):
    """Logits by one matrix; what else is done to them is `answer`."""

    def __init__(self, shape: Shape, classes: int):
        super().__init__()
        self.head = nn.Linear(prod(shape), classes)
        self.temperature = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> object:
        return self.answer(images, self.temperature.exp() * self.head(images.flatten(1)))

    def answer(self, images: Tensor, logits: Tensor) -> object:
        return logits


class Squeezed(Linear):
    def answer(self, images: Tensor, logits: Tensor) -> Tensor:
        return logits.squeeze()


class WithFeatures(Linear):
    def answer(self, images: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits, images


class Named(Linear):
    def answer(self, images: Tensor, logits: Tensor) -> dict[str, Tensor]:
        return {"scores": logits, "features": images}


class Reshaped(Linear):
    """Its code fixes the batch of an export, silently."""

    def forward(self, images: Tensor) -> Tensor:
        return self.temperature * self.head(images.reshape(len(images), -1))


class Expanded(Linear):
    """So does this, as vision transformers do with their class token."""

    def answer(self, images: Tensor, logits: Tensor) -> Tensor:
        return logits + self.temperature.view(1, 1).expand(len(images), -1)


class NotInOnnx(Linear):
    def answer(self, images: Tensor, logits: Tensor) -> Tensor:
        return torch.special.i0(logits)


class Guarded(Linear):
    """Of what torch.export prints pages."""

    def answer(self, images: Tensor, logits: Tensor) -> Tensor:
        return logits * (1.0 if images.max().item() > 100 else 2.0)


class Doubled(Linear):
    """Another network in ONNX."""

    def answer(self, images: Tensor, logits: Tensor) -> Tensor:
        return 2 * logits if torch.compiler.is_exporting() else logits


def scripted(shape: Shape, classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        return torch.jit.script(linear(shape, classes))


def traced(shape: Shape, classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(torch.jit.trace(linear(shape, classes), torch.zeros(2, *shape)))


def lazy(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def without_values(shape: Shape, classes: int) -> nn.Module:
    return linear(shape, classes).to("meta")


def for_inference(shape: Shape, classes: int) -> nn.Module:
    with torch.inference_mode():
        return linear(shape, classes)


def with_its_transform(shape: Shape, classes: int) -> object:
    return linear(shape, classes), torch.zeros(9)


not_callable = torch.zeros(9)
