from __future__ import annotations

import torch

from hf_mlops.hypernet.denoiser import LEAST_VARIANCE, LEFT_AFTER_CORRECTION, LinearGuess


def test_a_guess_is_a_weighted_regression_and_leaves_a_weighted_variance() -> None:
    """A token of two numbers at signals -1 and 1: rows of weight 100, on the line 3 s + 1, in the first 2 above and below it.

    The penalty makes 3 · 400 / (400 + 1) of the slope 3. Rows of weight 0 lie anywhere.
    """
    signal = torch.tensor([[-1.0], [-1.0], [1.0], [1.0], [5.0]])
    line = 3 * signal + 1
    clean = torch.stack([line + torch.tensor([[2.0], [-2.0], [2.0], [-2.0], [7.0]]), line], 2)  # (rows, 1 token, 2)
    guess = LinearGuess(1, 2, 1)
    guess.fit(signal, clean, torch.tensor([100.0] * 4 + [0.0]))
    slope = 3 * 400 / 401
    torch.testing.assert_close(guess.coefficients[:, 0], torch.tensor([[slope, slope], [1.0, 1.0]]))
    left = torch.tensor([4 + (3 - slope) ** 2, (3 - slope) ** 2])
    torch.testing.assert_close(guess.variance[0], (LEFT_AFTER_CORRECTION * left).clamp_min(LEAST_VARIANCE))
    assert guess.variance[0, 1] == LEAST_VARIANCE
    torch.testing.assert_close(guess(signal[:1])[0, 0], torch.tensor([1 - slope, 1 - slope]))
