"""Who comes first: gaps of every figure to retrained targets, in units of what doing nothing or masking leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd


def gap(values: Sequence[float], retrained: Sequence[float]) -> float:
    """Mean distance of figures from the mean of those of retrained targets."""
    wanted = sum(retrained) / len(retrained)
    return sum(abs(value - wanted) for value in values) / len(values)


def floor(retrained: Sequence[float]) -> float:
    """The mean `gap` of one retrained target to the others."""
    rest = len(retrained) - 1
    return sum(abs(one - (sum(retrained) - one) / rest) for one in retrained) / len(retrained)


def ranked(gaps: pd.DataFrame, known_bad: Sequence[str], reference: str) -> pd.DataFrame:
    """Gaps in units of the largest that a classifier of known standing has in the same figure, their sum, and the rank by it.

    Args:
        gaps: a row for each way to forget, a column for each figure.
        known_bad: the rows that are the unit.
        reference: the row that all are held against, which has no rank.

    Returns:
        the same rows and columns, then `sum of gaps` and `rank`, from 1.
    """
    units = gaps / gaps.loc[list(known_bad)].max()
    total = units.sum(axis=1, skipna=False)
    return units.assign(**{"sum of gaps": total, "rank": total.drop(reference).rank(method="min")})


def fastest_as_good(figures: pd.DataFrame, seconds: Mapping[str, float], sampled: str, less: str, more: str) -> str | None:
    """The fastest rival with at most a sample's figure in one column and at least a sample's in another; None if there is none.

    Args:
        figures: a row for each way to forget.
        seconds: that a request takes, of the rivals among them.
        sampled: the row of samples.
        less, more: columns.
    """
    own = figures.loc[sampled]
    good = (figures[less] <= own[less]) & (figures[more] >= own[more])
    return min((name for name in seconds if good[name]), key=lambda name: seconds[name], default=None)
