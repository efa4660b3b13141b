"""Ridge regression."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device
from jaxtyping import Float

CONSTANT_PENALTY = 1e-6  # next to none; above 0, so that there is a solution even without a row


def ridge(features: Float[Any, "rows features"], values: Float[Any, " rows *outputs"]) -> Float[Any, " features *outputs"]:
    """The coefficients c that minimise |features c - values|² + |c|², where the last one, of a constant, hardly counts in |c|².

    They solve (features' features + penalty) c = features' values, in float64.
    """
    xp = array_namespace(features)
    x, y = xp.astype(features, xp.float64), xp.astype(values, xp.float64)
    penalty = xp.eye(x.shape[1], dtype=xp.float64, device=device(x))
    penalty[-1, -1] = CONSTANT_PENALTY
    return xp.astype(xp.linalg.solve(x.T @ x + penalty, x.T @ y), xp.float32)
