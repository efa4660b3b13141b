"""Weight spaces: the coordinates that diffusion runs in, as tokens, behind one interface."""

from __future__ import annotations

from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hf_mlops.population.target import Target

ROWS_FITTED = 50_000  # rows of a weight matrix that principal directions come from


class WeightSpace(nn.Module):
    """Weights (N, P) to tokens (N, tokens, width) and back, fitted on a population's training rows.

    `encode` works in and returns float64, so that `decode(encode(weights))` gives the weights back exactly where the space
    keeps everything; diffusion casts to float32. Every coordinate has mean 0; the fitted ones have variance near 1.
    """

    default_width: int
    tokens: int
    width: int
    mean: Tensor  # (P,)
    scale: Tensor  # (coordinates,)

    def encode(self, weights: Tensor) -> Tensor:
        """(N, P) -> (N, tokens, width), float64."""
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        """(N, tokens, width) -> (N, P), float32; differentiable."""
        raise NotImplementedError


class RawTokens(WeightSpace):
    """The parameters themselves, each tensor cut into tokens of `width` coordinates (as in G.pt, arXiv 2209.12892).

    A tensor is a stack of rows, one for each unit it computes. Rows longer than `components` enter by their leading principal
    directions, which all rows of a tensor share: an image's border, where weights hardly differ, costs nothing. The last
    token of a tensor is padded with zeros. Each parameter is centred; a tensor, or a direction, has one scale.
    """

    default_width = 128
    layout: Tensor  # (tensors, 3): rows, their length, coordinates of each

    def __init__(self, width: int, layout: Tensor, mean: Tensor, scale: Tensor, **bases: Tensor):
        super().__init__()
        self.register_buffer("layout", layout)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)  # (coordinates,)
        for name, basis in bases.items():
            self.register_buffer(name, basis)  # (length, coordinates)
        self.shape = [(int(rows), int(length), int(kept)) for rows, length, kept in layout.tolist()]
        self.width, self.tokens = width, sum(ceil(rows * kept / width) for rows, _, kept in self.shape)

    @classmethod
    def fit(cls, target: Target, weights: Tensor, width: int, components: int) -> RawTokens:
        """The space for a population's training rows (N, P)."""
        mean = weights.double().mean(0)
        layout: list[tuple[int, int, int]] = []
        scale, bases = [], {}
        parts = weights.split([prod(shape) for shape in target.shapes.values()], 1)
        for number, (shape, part) in enumerate(zip(target.shapes.values(), parts, strict=True)):
            start = sum(rows * length for rows, length, _ in layout)
            length = prod(shape[1:]) if len(shape) > 1 else prod(shape)
            rows = prod(shape) // length
            some = part[:: ceil(rows * len(part) / ROWS_FITTED)].double()
            deviation = (some - mean[start : start + rows * length]).view(-1, length)
            if length > components:
                variance, axes = torch.linalg.eigh(deviation.T @ deviation / len(deviation))  # ascending
                bases[f"basis{number}"] = axes.flip(1)[:, :components].contiguous()
                scale.append(variance.flip(0)[:components].clamp_min(1e-24).sqrt().repeat(rows))
            else:
                scale.append(deviation.square().mean().sqrt().clamp_min(1e-12).repeat(rows * length))
            layout.append((rows, length, min(length, components)))
        return cls(width, torch.tensor(layout), mean, torch.cat(scale), **bases)

    def encode(self, weights: Tensor) -> Tensor:
        parts = (weights.double() - self.mean).split([rows * length for rows, length, _ in self.shape], 1)
        scales = self.scale.split([rows * kept for rows, _, kept in self.shape])
        tokens = []
        for number, ((rows, length, kept), part, scale) in enumerate(zip(self.shape, parts, scales, strict=True)):
            if kept < length:
                part = (part.unflatten(1, (rows, length)) @ self.get_buffer(f"basis{number}")).flatten(1)
            tokens.append(pad(part / scale, (0, -part.shape[1] % self.width)))
        return torch.cat(tokens, 1).unflatten(1, (self.tokens, self.width))

    def decode(self, tokens: Tensor) -> Tensor:
        kept_sizes = [rows * kept for rows, _, kept in self.shape]
        parts = tokens.flatten(1).split([ceil(size / self.width) * self.width for size in kept_sizes], 1)
        scales = self.scale.to(tokens.dtype).split(kept_sizes)
        weights = []
        for number, ((rows, length, kept), part, scale) in enumerate(zip(self.shape, parts, scales, strict=True)):
            part = part[:, : rows * kept] * scale
            if kept < length:
                part = (part.unflatten(1, (rows, kept)) @ self.get_buffer(f"basis{number}").T.to(tokens.dtype)).flatten(1)
            weights.append(part)
        return (torch.cat(weights, 1) + self.mean.to(tokens.dtype)).float()


class Latents(WeightSpace):
    """The population's leading principal components, each scaled to variance 1, cut into tokens of `width` of them.

    Keeps what lies in the components' span; `variance_kept` is the share of the population's variance that does.
    """

    default_width = 16
    basis: Tensor  # (P, components)
    variance_kept: Tensor  # ()

    def __init__(self, width: int, mean: Tensor, basis: Tensor, scale: Tensor, variance_kept: Tensor):
        super().__init__()
        self.width, self.tokens = width, basis.shape[1] // width
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.register_buffer("scale", scale)
        self.register_buffer("variance_kept", variance_kept)

    @classmethod
    def fit(cls, target: Target, weights: Tensor, width: int, components: int) -> Latents:
        """The space for a population's training rows (N, P); components are rounded down to whole tokens.

        Raises:
            ValueError: fewer components than fill a token.
        """
        components = min(components, *weights.shape) // width * width
        if components == 0:
            raise ValueError(f"token_width = {width} is not allowed; allowed: up to the number of components there are")
        mean = weights.double().mean(0)
        deviation = weights.double() - mean
        gram = deviation @ deviation.T if len(weights) < weights.shape[1] else deviation.T @ deviation
        variance, axes = torch.linalg.eigh(gram / len(deviation))  # ascending
        leading, axes = variance.flip(0)[:components].clamp_min(1e-24), axes.flip(1)[:, :components]
        if len(weights) < weights.shape[1]:
            axes = deviation.T @ axes / (leading * len(deviation)).sqrt()
        return cls(width, mean, axes.contiguous(), leading.sqrt(), leading.sum() / variance.sum())

    def encode(self, weights: Tensor) -> Tensor:
        return ((weights.double() - self.mean) @ self.basis / self.scale).view(-1, self.tokens, self.width)

    def decode(self, tokens: Tensor) -> Tensor:
        to = tokens.dtype
        return ((tokens.flatten(1) * self.scale.to(to)) @ self.basis.T.to(to) + self.mean.to(to)).float()


SPACES: dict[str, type[WeightSpace]] = {"latent": Latents, "raw": RawTokens}
