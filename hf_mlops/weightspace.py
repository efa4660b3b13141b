"""Weight spaces: the coordinates that diffusion runs in, as tokens, behind one interface."""

from __future__ import annotations

from itertools import accumulate
from math import ceil, prod

import torch
from torch import Tensor, nn

from hf_mlops.targets import Target


class WeightSpace(nn.Module):
    """Weights (N, P) to tokens (N, tokens, width) and back, fitted on a population's training rows.

    `encode` works in and returns float64, so that `decode(encode(weights))` gives the weights back exactly where the space
    keeps everything; diffusion casts to float32. Every coordinate has mean 0; the fitted ones have variance near 1.
    """

    default_width: int
    tokens: int
    width: int
    mean: Tensor  # (P,)
    scale: Tensor  # (P,) or (components,)

    def encode(self, weights: Tensor) -> Tensor:
        """(N, P) -> (N, tokens, width), float64."""
        raise NotImplementedError

    def decode(self, tokens: Tensor) -> Tensor:
        """(N, tokens, width) -> (N, P), float32; differentiable."""
        raise NotImplementedError


class RawTokens(WeightSpace):
    """The parameters themselves, each tensor cut into tokens of `width` of them (as in G.pt, arXiv 2209.12892).

    The last token of a tensor is padded with zeros. Each parameter is centred; each tensor has one scale.
    """

    default_width = 128
    place: Tensor  # (P,) where each parameter stands among the tokens' coordinates

    def __init__(self, width: int, place: Tensor, mean: Tensor, scale: Tensor):
        super().__init__()
        self.width, self.tokens = width, int(place.max()) // width + 1
        self.register_buffer("place", place)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, target: Target, weights: Tensor, width: int) -> RawTokens:
        """The space for a population's training rows (N, P)."""
        sizes = [prod(shape) for shape in target.shapes.values()]
        first_token = accumulate((ceil(size / width) for size in sizes), initial=0)
        place = torch.cat([torch.arange(size) + first * width for size, first in zip(sizes, first_token, strict=False)])
        mean = weights.double().mean(0)
        parts = (weights.double() - mean).split(sizes, 1)
        scale = [part.square().mean().sqrt().clamp_min(1e-12).repeat(part.shape[1]) for part in parts]
        return cls(width, place, mean, torch.cat(scale))

    def encode(self, weights: Tensor) -> Tensor:
        flat = torch.zeros(len(weights), self.tokens * self.width, dtype=torch.float64, device=weights.device)
        flat[:, self.place] = (weights.double() - self.mean) / self.scale
        return flat.view(-1, self.tokens, self.width)

    def decode(self, tokens: Tensor) -> Tensor:
        return (tokens.flatten(1)[:, self.place] * self.scale.to(tokens.dtype) + self.mean.to(tokens.dtype)).float()


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
        variance, axes = torch.linalg.eigh(deviation.T @ deviation / len(deviation))  # ascending
        leading = variance.flip(0)[:components].clamp_min(1e-24)
        return cls(width, mean, axes.flip(1)[:, :components].contiguous(), leading.sqrt(), leading.sum() / variance.sum())

    def encode(self, weights: Tensor) -> Tensor:
        return ((weights.double() - self.mean) @ self.basis / self.scale).view(-1, self.tokens, self.width)

    def decode(self, tokens: Tensor) -> Tensor:
        to = tokens.dtype
        return ((tokens.flatten(1) * self.scale.to(to)) @ self.basis.T.to(to) + self.mean.to(to)).float()


SPACES: dict[str, type[WeightSpace]] = {"latent": Latents, "raw": RawTokens}
