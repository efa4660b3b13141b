"""Losses as the hypernetwork and every judge of it see them: on a log scale, and as means over D_r and D_f."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

LOSS_FLOOR = 1e-3  # nats; added before a logarithm, so that a loss of 0 has one


def log_losses(losses: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """log(loss + floor): 0 nats become -6.9, 0.999 nats become 0."""
    return (losses + LOSS_FLOOR).log()


def losses_of_logs(logs: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The inverse of `log_losses`; a log loss below that of 0 nats, which a regression may give, is a loss of 0 too."""
    return (logs.exp() - LOSS_FLOOR).clamp_min(0)


def log_ratio(losses: Float[Tensor, " rows"] | float, usual: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """How far losses are off their usual values on that scale: log((loss + floor) / (usual + floor))."""
    return ((losses + LOSS_FLOOR) / (usual + LOSS_FLOOR)).log()


def set_means(
    values: Float[Tensor, "rows groups"], forgotten: Bool[Tensor, "rows groups"], share: Float[Tensor, " groups"]
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Means over D_r and over D_f of a measure (loss, accuracy) that is known for each group.

    Values 1, 2 and 4 on groups that are 1/2, 1/4 and 1/4 of the data, the first of them forgotten: 3 over D_r, 1 over D_f.

    Args:
        values: mean on each group.
        forgotten: the groups in D_f.
        share: of the data that each group is.

    Returns:
        means over D_r and over D_f; the latter is NaN where nothing is forgotten.
    """
    retain, forget = share * ~forgotten, share * forgotten
    return (values * retain).sum(1) / retain.sum(1), (values * forget).sum(1) / forget.sum(1)
