"""Standard errors over specs: how much a figure hangs on which specs were looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def over(judged: Floats, reference: Floats) -> float:
    """Difference of the means."""
    return float(judged.mean() - reference.mean())


def ratio(judged: Floats, reference: Floats) -> float:
    """Ratio of the means."""
    return float(judged.mean() / reference.mean()) if reference.mean() else float("nan")


def jackknife(figure: Callable[[Floats, Floats], float], judged: Floats, reference: Floats) -> tuple[float, float]:
    """A figure of two values for each spec, and its standard error over specs, each left out in turn.

    Specs that share a class are not independent, so the error is a little too small. Source: Tukey, Annals of Mathematical
    Statistics 29 (1958). Specs that lack a value count as none; NaN where none is left, or for the error fewer than two.
    """
    there = ~np.isnan(judged) & ~np.isnan(reference)
    judged, reference = judged[there], reference[there]
    count = len(judged)
    if not count:
        return float("nan"), float("nan")
    each = [figure(np.delete(judged, one), np.delete(reference, one)) for one in range(count)] if count > 1 else []
    error = (count - 1) ** 0.5 * float(np.std(each)) if each else float("nan")
    return figure(judged, reference), error
