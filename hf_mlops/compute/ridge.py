"""Ridge regression."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CONSTANT_PENALTY = 1e-6  # next to none; above 0, so that there is a solution even without a row


def ridge(
    features: Float[Tensor, "rows features"], values: Float[Tensor, " rows *outputs"]
) -> Float[Tensor, " features *outputs"]:
    """The coefficients c that minimise |features c - values|² + |c|², where the last one, of a constant, hardly counts in |c|².

    They solve (features' features + penalty) c = features' values, in float64.
    """
    x, y = features.double(), values.double()
    penalty = torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    penalty[-1, -1] = CONSTANT_PENALTY
    return torch.linalg.solve(x.T @ x + penalty, x.T @ y).float()
