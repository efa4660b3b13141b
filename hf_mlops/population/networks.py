"""Networks: the named architectures, and those of a user's own module, checked before any work starts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import is_lazy

from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest

Shape = tuple[int, int, int]


class _Linear(nn.Linear):
    """`nn.Linear` as weight times images: where many models run on the same images, that is one matrix product for all.

    `torch.func.vmap` makes a product for each model of `nn.Linear`, on a copy of the images for each: a population of `mlp-32`
    then takes twice as long on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return (self.weight @ x.T + self.bias.unsqueeze(1)).T


def _mlp(hidden: int) -> Callable[[Shape, int], nn.Module]:
    def build(shape: Shape, classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), _Linear(prod(shape), hidden), nn.ReLU(), _Linear(hidden, classes))

    return build


class _Axes(nn.Module):
    """Puts the axes of a tensor into another order."""

    def __init__(self, *order: int):
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class _StridedConv(nn.Conv2d):
    """A convolution over (channels, height, width, batch) whose kernel is a multiple of its stride.

    Equal to `nn.Conv2d` without padding. With the batch last it is one matrix product for all positions of all images, which
    trains many models at once in about two thirds of the time that grouped convolutions take on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        taps = self.kernel_size[0] // step
        rows, columns = x.shape[1] // step, x.shape[2] // step
        x = x[:, : rows * step, : columns * step].unflatten(2, (columns, step)).unflatten(1, (rows, step))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (channels * step², rows, columns, batch)
        rows, columns = rows - taps + 1, columns - taps + 1
        x = torch.cat([x[:, tap : tap + rows] for tap in range(taps)])
        x = torch.cat([x[:, :, tap : tap + columns] for tap in range(taps)])  # (channels * kernel², rows, columns, batch)
        weight = self.weight.unflatten(3, (taps, step)).unflatten(2, (taps, step)).permute(0, 4, 2, 1, 3, 5).flatten(1)
        assert self.bias is not None
        return (weight @ x.flatten(1) + self.bias.unsqueeze(1)).unflatten(1, (rows, columns, -1))


def _lenet(shape: Shape, classes: int) -> nn.Module:
    padding = max(0, -(-(16 - min(shape[1:])) // 2))  # smaller images have no room for the kernels
    after = prod(((side + 2 * padding - 6) // 2 + 1 - 4) // 2 + 1 for side in shape[1:])
    return nn.Sequential(
        nn.ZeroPad2d(padding),
        _Axes(1, 2, 3, 0),
        _StridedConv(shape[0], 6, 6, stride=2),
        nn.ReLU(),
        _StridedConv(6, 16, 4, stride=2),
        nn.ReLU(),
        _Axes(3, 0, 1, 2),
        nn.Flatten(),
        nn.Linear(16 * after, classes),
    )


class _Residual(nn.Module):
    """Two 3 by 3 convolutions added to their input; normalised over groups of channels, since batch statistics tie images."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(4, width)
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.shortcut(x) + self.norm2(self.conv2(y))).relu()


def _resnet(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(shape[0], 12, 3, padding=1, bias=False),
        nn.GroupNorm(4, 12),
        nn.ReLU(),
        _Residual(12, 12, stride=1),
        _Residual(12, 24, stride=2),
        _Residual(24, 48, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Module]] = {
    "mlp-10": _mlp(10),
    "mlp-16": _mlp(16),
    "mlp-32": _mlp(32),
    "lenet": _lenet,
    "resnet": _resnet,
}
ALLOWED = f"{', '.join(ARCHITECTURES)}, or module:callable for a network of your own"


def is_architecture(name: str) -> bool:
    """Whether a text is a name in `ARCHITECTURES` or of the form `module:callable`; imports nothing."""
    return name in ARCHITECTURES or re.fullmatch(r"[\w.]+:[\w.]+", name) is not None


def build(architecture: str, shape: Shape, classes: int, seed: int) -> nn.Module:
    """A network with its initial values: (batch, channels, height, width) -> (batch, classes) logits.

    Args:
        architecture: a name in `ARCHITECTURES`, or `module:callable`, which is called with (shape, classes) and may return
            pretrained values.
        shape: (channels, height, width) of one image.
        seed: of what is random in the initialisation; the caller's generator stays as it was.

    Raises:
        BadRequest: an unknown name, a module that does not import, or a callable that returns no network with finite float32
            parameters of its own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = ARCHITECTURES.get(architecture) or _callable(architecture)
        try:
            network = make(shape, classes)
        except Exception as error:  # whatever a user's code raises
            text = f"architecture {architecture!r} raised {in_one_line(error)} when called with ({shape}, {classes})"
            raise BadRequest(text) from error
    try:
        problem = _problem_of_values(network)
        if not problem:
            network.requires_grad_(False)
    except Exception as error:  # of tensors that are none, or not to be changed
        raise BadRequest(f"architecture {architecture!r} cannot be a target: {in_one_line(error)}") from error
    if problem:
        raise BadRequest(f"architecture {architecture!r} cannot be a target: {problem}")
    return network


def _callable(architecture: str) -> Callable[[Shape, int], nn.Module]:
    """What `module:callable` names."""
    if not is_architecture(architecture):
        raise BadRequest(f"unknown architecture {architecture!r}; allowed: {ALLOWED}")
    module, name = architecture.split(":")
    try:
        make = import_module(module)
        for part in name.split("."):
            make = getattr(make, part)
    except Exception as error:  # whatever a user's code raises
        raise BadRequest(f"architecture {architecture!r} does not import: {in_one_line(error)}") from error
    if not callable(make):
        allowed = "a callable (input_shape, classes) -> nn.Module"
        raise BadRequest(f"architecture {architecture!r} is {kind_and_shape(make)}; allowed: {allowed}")
    return make


def in_one_line(error: BaseException) -> str:
    """An exception as its class and the first paragraph of its text, at most 300 characters of it."""
    text = " ".join(str(error).split("\n\n")[0].split())
    return f"{type(error).__name__}: {text[:299]}…" if len(text) > 300 else f"{type(error).__name__}: {text}"


def kind_and_shape(value: object) -> str:
    """What a value is, without its numbers: `torch.float32 (4, 10)`, `a tuple (Tensor, int)`, `a dict with the keys a, b`."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    name = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {name} with the keys {', '.join(map(str, list(value)[:8]))}"
    if isinstance(value, (tuple, list)):
        return f"a {name} ({', '.join(type(part).__name__ for part in value[:8])})"
    return "None" if value is None else f"a value of type {name}"


def _problem_of_values(network: object) -> str:
    """Why an object's values cannot be generated; empty if they can."""
    if not isinstance(network, nn.Module):
        return f"the callable returned {kind_and_shape(network)}; allowed: an nn.Module"
    if any(isinstance(part, torch.jit.ScriptModule) for part in network.modules()):
        return "it is scripted or traced (torch.jit); allowed: the nn.Module that it was made of"
    tensors = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    if lazy := [name for name, tensor in tensors if is_lazy(tensor)]:
        return f"{', '.join(lazy)} have no values yet (a lazy module): run it on an image before returning it"
    if any(tensor.is_inference() for _, tensor in tensors):
        return "it was made in torch.inference_mode(), where nothing can be trained; allowed: made outside of it"
    if away := {f"{name} is on {tensor.device}" for name, tensor in tensors if tensor.device.type != "cpu"}:
        return f"{min(away)}; allowed: cpu, training moves it from there"
    parameters = list(network.named_parameters(remove_duplicate=False))
    if not parameters:
        return "the network has no parameters"
    names: dict[int, str] = {}
    for name, parameter in parameters:
        if parameter.dtype != torch.float32:
            return f"{name} is {parameter.dtype}; allowed: torch.float32"
        if not parameter.isfinite().all():
            return f"{name} has initial values that are not finite"
        if names.setdefault(id(parameter), name) != name:
            return f"{names[id(parameter)]} and {name} are one tensor; allowed: parameters that are not tied"
    return ""


def in_scope(scope: str, names: Iterable[str]) -> list[str]:
    """The names that a scope selects, in their order.

    Args:
        scope: patterns as of a shell, joined by commas: `*`, `fc.*`, `head.*,*.bias`.

    Raises:
        BadRequest: a pattern that matches no name.
    """
    names, patterns = list(names), [pattern.strip() for pattern in scope.split(",")]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadRequest(f"scope = {scope!r}: {pattern!r} matches no parameter; allowed: patterns over {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def check(network: nn.Module, architecture: str, generated: Iterable[str], shape: Shape, classes: int) -> None:
    """Refuses a network that many models at once, each with `generated` parameters of its own, could not be trained as.

    Raises:
        BadRequest: wrong logits, answers that depend on chance or on the other images of a batch, buffers that change, code
            that `torch.func.vmap` cannot run, or a parameter without any effect.
    """
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    try:
        problem = _problem_of_answers(network, images, classes) or _problem_of_training(network, images, list(generated))
    except Exception as error:  # whatever a user's code raises
        problem = f"its forward pass raised {in_one_line(error)}"
    if problem:
        raise BadRequest(f"architecture {architecture!r} cannot be a target: {problem}")


def _problem_of_answers(network: nn.Module, images: Tensor, classes: int) -> str:
    """Why a network's answers are not the logits of each image by itself; empty if they are."""

    def answer(images: Tensor, seed: int = 0) -> Any:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            return network(images)

    buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}
    logits = answer(images)
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes) or logits.dtype != torch.float32:
        allowed = f"torch.float32 {(len(images), classes)}"
        return f"it answers {len(images)} images with {kind_and_shape(logits)}; allowed: {allowed}"
    if not logits.isfinite().all():
        return "its logits are not finite"
    changed = [name for name, tensor in network.named_buffers() if not torch.equal(tensor, buffers[name])]
    if changed:
        return f"a forward pass changes its buffers {', '.join(changed)} (batch norm?): call .eval() before returning it"
    if not torch.equal(answer(images, seed=1), logits):
        return "two forward passes on the same images differ (dropout?): call .eval() before returning it"
    for count in (2, 1):
        fewer = answer(images[:count])
        if fewer.shape != (count, classes):
            allowed = f"torch.float32 {(count, classes)}"
            return f"it answers a batch of {count} with {kind_and_shape(fewer)} (squeeze?); allowed: {allowed}"
        if not torch.allclose(fewer, logits[:count], rtol=1e-3, atol=1e-4):
            return "its answer to an image depends on the other images of the batch (batch statistics?)"
    return ""


def _problem_of_training(network: nn.Module, images: Tensor, generated: list[str]) -> str:
    """Why a network cannot be trained as many at once; empty if it can."""
    values = dict(network.named_parameters())
    stacked = {name: torch.stack([values[name].detach()] * 2).requires_grad_() for name in generated}
    try:
        with torch.enable_grad():
            vmap(lambda one: functional_call(network, one, (images,)))(stacked).sum().backward()
    except Exception as error:  # torch has no common class for what vmap and autograd refuse
        return f"torch.func.vmap cannot train many of it at once: {in_one_line(error)}"
    idle = [name for name, tensor in stacked.items() if tensor.grad is None]
    return f"its logits do not depend on {', '.join(idle)}: leave them out of the scope" if idle else ""


def source_digest(architecture: str) -> str:
    """SHA-256 of the file that a user's network comes from; empty for a named architecture."""
    if architecture in ARCHITECTURES:
        return ""
    file = getattr(sys.modules[architecture.split(":")[0]], "__file__", None)
    return sha256(Path(file)) if file else ""
