"""Losses as the hypernetwork and every judge of it see them: on a log scale, and as means over D_r and D_f.

Here and in whatever else a request needs, arrays may be of NumPy or of torch: answers are of the same library.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Bool, Float

LOSS_FLOOR = 1e-3  # nats; added before a logarithm, so that a loss of 0 has one


def log_losses(losses: Float[Any, "*any"]) -> Float[Any, "*any"]:
    """log(loss + floor): 0 nats become -6.9, 0.999 nats become 0."""
    return array_namespace(losses).log(losses + LOSS_FLOOR)


def losses_of_logs(logs: Float[Any, "*any"]) -> Float[Any, "*any"]:
    """The inverse of `log_losses`; a log loss below that of 0 nats, which a regression may give, is a loss of 0 too."""
    xp = array_namespace(logs)
    return xp.clip(xp.exp(logs) - LOSS_FLOOR, 0, None)


def log_ratio(losses: Float[Any, " rows"] | float, usual: Float[Any, " rows"]) -> Float[Any, " rows"]:
    """How far losses are off their usual values on that scale: log((loss + floor) / (usual + floor))."""
    return array_namespace(usual).log((losses + LOSS_FLOOR) / (usual + LOSS_FLOOR))


def set_means(
    values: Float[Any, "rows groups"], forgotten: Bool[Any, "rows groups"], share: Float[Any, " groups"]
) -> tuple[Float[Any, " rows"], Float[Any, " rows"]]:
    """Means over D_r and over D_f of a measure (loss, accuracy) that is known for each group.

    Values 1, 2 and 4 on groups that are 1/2, 1/4 and 1/4 of the data, the first of them forgotten: 3 over D_r, 1 over D_f.

    Args:
        values: mean on each group.
        forgotten: the groups in D_f.
        share: of the data that each group is.

    Returns:
        means over D_r and over D_f; the latter is NaN where nothing is forgotten.
    """
    xp = array_namespace(values)
    retain, forget = share * ~forgotten, share * forgotten
    nothing = ~xp.any(forgotten, axis=1)
    of_forget = xp.sum(values * forget, axis=1) / (xp.sum(forget, axis=1) + xp.astype(nothing, values.dtype))
    return xp.sum(values * retain, axis=1) / xp.sum(retain, axis=1), xp.where(nothing, xp.nan, of_forget)


def log_softmax(logits: Float[Any, "*any classes"]) -> Float[Any, "*any classes"]:
    """Log probabilities of classes; -inf of one that is left out stays so."""
    xp = array_namespace(logits)
    off = logits - xp.max(logits, axis=-1, keepdims=True)
    return off - xp.log(xp.sum(xp.exp(off), axis=-1, keepdims=True))
