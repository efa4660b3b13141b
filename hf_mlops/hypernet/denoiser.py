"""The denoiser: a transformer over weight tokens, told the noise level and the loss signal.

Blocks follow the diffusion transformer (Peebles and Xie, arXiv 2212.09748): conditioning scales, shifts and gates each block.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hf_mlops.base.ridge import ridge
from hf_mlops.serving.diffusion import posterior_mean

LEFT_AFTER_CORRECTION = 0.25  # of the variance about the guess, when the transformer has corrected it
LEAST_VARIANCE = 1e-4  # of a coordinate; before the guess it is 1


class TimeEmbedding(nn.Module):
    """Times in 0 to 1 as sines and cosines of `width` / 2 frequencies, then a small network."""

    frequencies: Float[Tensor, " half_width"]

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, log(1000), width // 2)) * pi / 2, persistent=False)
        self.network = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Float[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        angle = time[:, None] * self.frequencies  # (rows, width / 2)
        return self.network(torch.cat([angle.cos(), angle.sin()], -1))


class Block(nn.Module):
    """Self-attention and a feed-forward network, each scaled, shifted and gated by the conditioning."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.to_qkv = nn.Linear(width, 3 * width)
        self.from_heads = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def silence(self) -> None:
        """Makes the block the identity."""
        for parameter in self.modulation.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "rows tokens width"], condition: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows tokens width"]:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, -1)  # (rows, 1, width)
        qkv = self.to_qkv(self.norm(x) * (1 + scale1) + shift1)  # (rows, tokens, 3 width)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (rows, heads, tokens, width / heads)
        # the fused kernel of CPUs is many times slower on few tokens, where matrix products may be of reduced precision
        with sdpa_kernel(SDPBackend.MATH) if x.device.type == "cpu" else nullcontext():
            attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (rows, tokens, width)
        x = x + gate1 * self.from_heads(attended)
        return x + gate2 * self.feed_forward(self.norm(x) * (1 + scale2) + shift2)


class LinearGuess(nn.Module):
    """Weight tokens as a ridge regression on the loss signal: what the transformer corrects, and how far off it is."""

    coefficients: Float[Tensor, "features tokens token_width"]  # of the signal's entries and a constant
    variance: Float[Tensor, "tokens token_width"]  # of the tokens about the corrected guess

    def __init__(self, tokens: int, token_width: int, signal_width: int):
        super().__init__()
        self.register_buffer("coefficients", torch.zeros(signal_width + 1, tokens, token_width))
        self.register_buffer("variance", torch.ones(tokens, token_width))

    def fit(
        self,
        signal: Float[Tensor, "rows signal"],
        clean: Float[Tensor, "rows tokens token_width"],
        weight: Float[Tensor, " rows"],
    ) -> None:
        """Fits to signals and tokens, in squares that count by the weight of their row."""
        root = weight.sqrt()[:, None]
        features = torch.cat([signal, torch.ones_like(root)], 1)
        self.coefficients.copy_(ridge(root * features, root * clean.flatten(1)).view_as(self.coefficients))
        left = torch.tensordot(weight / weight.sum(), (clean - self(signal)).square(), 1)
        self.variance.copy_((LEFT_AFTER_CORRECTION * left).clamp_min(LEAST_VARIANCE))

    def forward(self, signal: Float[Tensor, "rows signal"]) -> Float[Tensor, "rows tokens token_width"]:
        """Tokens for signals."""
        return torch.tensordot(signal, self.coefficients[:-1], 1) + self.coefficients[-1]


class Denoiser(nn.Module):
    """Predicts clean weight tokens.

    Args:
        tokens, token_width: shape of the weight space.
        signal_width: entries of the loss signal.
        width, layers, heads: size of the transformer.
    """

    def __init__(self, tokens: int, token_width: int, signal_width: int, width: int, layers: int, heads: int):
        super().__init__()
        self.time = TimeEmbedding(width)
        self.signal = nn.Sequential(
            nn.Linear(signal_width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.guess = LinearGuess(tokens, token_width, signal_width)
        self.embed = nn.Linear(token_width, width)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        blocks = [Block(width, heads) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, token_width)
        for block in blocks:  # every block starts as the identity, so that depth costs no early signal
            block.silence()
        nn.init.zeros_(self.out.weight)  # the first mean is the linear guess
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        noisy: Float[Tensor, "rows tokens token_width"],
        time: Float[Tensor, " rows"],
        signal: Float[Tensor, "rows signal"],
    ) -> Float[Tensor, "rows tokens token_width"]:
        """Clean tokens from noisy ones, their times in 0 to 1, and loss signals."""
        condition = self.time(time) + self.signal(signal)  # (rows, width)
        x = self.embed(noisy) + self.position  # (rows, tokens, width)
        for block in self.blocks:
            x = block(x, condition)
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, -1)
        mean = self.guess(signal) + self.out(self.norm(x) * (1 + scale) + shift)  # (rows, tokens, token width)
        # one time for each coordinate: of few numbers ONNX Runtime takes the cosine by another path, with other last bits
        return posterior_mean(noisy, mean, self.guess.variance, time[:, None, None].expand(-1, 1, noisy.shape[2]))
