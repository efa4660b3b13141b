"""Weight spaces: the coordinates that diffusion runs in, as tokens, behind one interface."""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from hf_mlops.base.errors import BadRequest
from hf_mlops.population.target import Target

ROWS_FITTED = 50_000  # rows of a weight matrix that principal directions come from


class WeightSpace(nn.Module):
    """Weights to tokens and back, fitted on a population's training rows.

    `encode` works in and returns float64, so that `decode(encode(weights))` gives the weights back exactly where the space
    keeps everything; diffusion casts to float32. Every coordinate has mean 0; the fitted ones have variance near 1.
    """

    default_width: int
    tokens: int
    width: int
    mean: Float[Tensor, " params"]
    scale: Float[Tensor, " coordinates"]

    @property
    def variance(self) -> Float[Tensor, ""]:
        """Of the training rows: their mean squared distance from their mean."""
        return self.scale.double().square().sum()

    def distances(self, weights: Float[Tensor, "models params"]) -> Float[Tensor, " models"]:
        """How far weights are from the mean of the training rows, in root mean squares of those rows' own distances.

        A row is 0.5 to 1.5 off; weights of another initialisation, which lies elsewhere, 2.4 or more (digits).
        """
        off = weights.to(self.mean.device).double() - self.mean
        return (off.square().sum(1) / self.variance).sqrt()

    def encode(self, weights: Float[Tensor, "models params"]) -> Float[Tensor, "models tokens token_width"]:
        """Tokens, float64."""
        raise NotImplementedError

    def decode(self, tokens: Float[Tensor, "models tokens token_width"]) -> Float[Tensor, "models params"]:
        """Weights, float32; differentiable."""
        raise NotImplementedError


class Stack(NamedTuple):
    """A tensor of weights as a stack of rows, one for each unit that it computes; a bias is a single row.

    A layer of 16 units on 64 pixels is 16 rows of 64 weights: 1024 coordinates or, by 32 directions, 512.
    """

    rows: int
    length: int  # weights in a row
    kept: int  # coordinates of a row: its weights, or their leading principal directions

    @classmethod
    def of(cls, shape: tuple[int, ...], components: int) -> Stack:
        """The rows of a tensor of this shape, of which up to `components` coordinates are kept."""
        length = prod(shape[1:]) if len(shape) > 1 else prod(shape)
        return cls(prod(shape) // length, length, min(length, components))

    @property
    def weights(self) -> int:
        return self.rows * self.length

    @property
    def coordinates(self) -> int:
        return self.rows * self.kept


class RawTokens(WeightSpace):
    """The parameters themselves, each tensor cut into tokens of `width` coordinates (as in G.pt, arXiv 2209.12892).

    1024 weights and their 16 biases in tokens of 128: eight tokens, and one that is padded with 112 zeros.

    Rows of a tensor that are longer than `components` enter by their leading principal directions, which all rows of the tensor
    share: an image's border, where weights hardly differ, costs nothing. Each parameter is centred; a tensor, or a direction,
    has one scale.
    """

    default_width = 128
    layout: Int[Tensor, "tensors 3"]  # the stacks

    def __init__(
        self,
        width: int,
        layout: Int[Tensor, "tensors 3"],
        mean: Float[Tensor, " params"],
        scale: Float[Tensor, " coordinates"],
        **bases: Float[Tensor, "_ _"],  # length and coordinates of a row, of each stack its own
    ):
        super().__init__()
        self.register_buffer("layout", layout)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        for name, basis in bases.items():  # of the stacks that enter by directions: basis0 is the first's
            self.register_buffer(name, basis)
        self.stacks = [Stack(*stack) for stack in layout.tolist()]
        self.width, self.tokens = width, sum(ceil(stack.coordinates / width) for stack in self.stacks)

    @classmethod
    def fit(cls, target: Target, weights: Float[Tensor, "models params"], width: int, components: int) -> RawTokens:
        """The space for a population's training rows."""
        stacks = [Stack.of(shape, components) for shape in target.shapes.values()]
        sizes = [stack.weights for stack in stacks]
        mean = weights.double().mean(0)
        scale, bases = [], {}
        for number, (stack, part, centre) in enumerate(zip(stacks, weights.split(sizes, 1), mean.split(sizes), strict=True)):
            some = part[:: ceil(stack.rows * len(part) / ROWS_FITTED)].double()
            deviation = (some - centre).view(-1, stack.length)
            if stack.kept < stack.length:
                variance, axes = torch.linalg.eigh(deviation.T @ deviation / len(deviation))  # ascending
                bases[f"basis{number}"] = axes.flip(1)[:, : stack.kept].contiguous()
                scale.append(variance.flip(0)[: stack.kept].clamp_min(1e-24).sqrt().repeat(stack.rows))
            else:
                scale.append(deviation.square().mean().sqrt().clamp_min(1e-12).repeat(stack.weights))
        return cls(width, torch.tensor(stacks), mean, torch.cat(scale), **bases)

    def encode(self, weights: Float[Tensor, "models params"]) -> Float[Tensor, "models tokens token_width"]:
        parts = (weights.double() - self.mean).split([stack.weights for stack in self.stacks], 1)
        scales = self.scale.split([stack.coordinates for stack in self.stacks])
        tokens = []
        for number, (stack, part, scale) in enumerate(zip(self.stacks, parts, scales, strict=True)):
            if stack.kept < stack.length:
                part = (part.unflatten(1, (stack.rows, stack.length)) @ self.get_buffer(f"basis{number}")).flatten(1)
            tokens.append(pad(part / scale, (0, -stack.coordinates % self.width)))
        return torch.cat(tokens, 1).unflatten(1, (self.tokens, self.width))

    def decode(self, tokens: Float[Tensor, "models tokens token_width"]) -> Float[Tensor, "models params"]:
        padded = [ceil(stack.coordinates / self.width) * self.width for stack in self.stacks]
        scales = self.scale.to(tokens.dtype).split([stack.coordinates for stack in self.stacks])
        parts, weights = tokens.flatten(1).split(padded, 1), []
        for number, (stack, part, scale) in enumerate(zip(self.stacks, parts, scales, strict=True)):
            part = part[:, : stack.coordinates] * scale
            if stack.kept < stack.length:
                basis = self.get_buffer(f"basis{number}").to(tokens.dtype)
                part = (part.unflatten(1, (stack.rows, stack.kept)) @ basis.T).flatten(1)
            weights.append(part)
        return (torch.cat(weights, 1) + self.mean.to(tokens.dtype)).float()


class Latents(WeightSpace):
    """The population's leading principal components, each scaled to variance 1, cut into tokens of `width` of them.

    Keeps what lies in the components' span; `variance_kept` is the share of the population's variance that does.
    """

    default_width = 16
    basis: Float[Tensor, "params coordinates"]
    variance_kept: Float[Tensor, ""]

    def __init__(
        self,
        width: int,
        mean: Float[Tensor, " params"],
        basis: Float[Tensor, "params coordinates"],
        scale: Float[Tensor, " coordinates"],
        variance_kept: Float[Tensor, ""],
    ):
        super().__init__()
        self.width, self.tokens = width, basis.shape[1] // width
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.register_buffer("scale", scale)
        self.register_buffer("variance_kept", variance_kept)

    @classmethod
    def fit(cls, target: Target, weights: Float[Tensor, "models params"], width: int, components: int) -> Latents:
        """The space for a population's training rows; components are rounded down to whole tokens.

        Raises:
            BadRequest: fewer components than fill a token.
        """
        components = min(components, *weights.shape) // width * width
        if components == 0:
            raise BadRequest(f"token_width = {width} is not allowed; allowed: up to the number of components there are")
        mean = weights.double().mean(0)
        deviation = weights.double() - mean
        gram = deviation @ deviation.T if len(weights) < weights.shape[1] else deviation.T @ deviation
        variance, axes = torch.linalg.eigh(gram / len(deviation))  # ascending
        leading, axes = variance.flip(0)[:components].clamp_min(1e-24), axes.flip(1)[:, :components]
        if len(weights) < weights.shape[1]:
            axes = deviation.T @ axes / (leading * len(deviation)).sqrt()
        return cls(width, mean, axes.contiguous(), leading.sqrt(), leading.sum() / variance.sum())

    @property
    def variance(self) -> Float[Tensor, ""]:
        return super().variance / self.variance_kept

    def encode(self, weights: Float[Tensor, "models params"]) -> Float[Tensor, "models tokens token_width"]:
        return ((weights.double() - self.mean) @ self.basis / self.scale).view(-1, self.tokens, self.width)

    def decode(self, tokens: Float[Tensor, "models tokens token_width"]) -> Float[Tensor, "models params"]:
        to = tokens.dtype
        return ((tokens.flatten(1) * self.scale.to(to)) @ self.basis.T.to(to) + self.mean.to(to)).float()


SPACES: dict[str, type[WeightSpace]] = {"latent": Latents, "raw": RawTokens}
