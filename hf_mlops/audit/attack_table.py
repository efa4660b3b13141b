"""Table of attacks: what each finds on each kind of classifier, beside retrained ones, and whether it could have found it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hf_mlops.audit.controls import MASKED, ORIGINAL, RETRAINED
from hf_mlops.audit.detection import AUC, DRAWS, RATES, interval
from hf_mlops.audit.membership import CALLED
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import generator_of, seed_of

SAMPLED = "sampled"
OVERFITTED = "overfitted"  # trained on few images for long: an attack that works at all finds these
KINDS = (OVERFITTED, ORIGINAL, MASKED, SAMPLED, RETRAINED)
FIGURES = (AUC, *RATES, CALLED)


def attack_table(found: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row per attack and kind of classifier.

    Args:
        found: a row for each attack on each classifier: `attack`; `kind`, a name in `KINDS`; `forget`, the spec; `model`, a
            number by which one of another kind is its pair; and what `detection` gives, with `CALLED`.

    Returns:
        `AUC` with its interval and the other figures, means over specs and classifiers; each figure less that of the retrained
        classifier of the same spec and number, with the interval of that over pairs; `worst spec`: of the specs, that AUC less
        retrained which is furthest from 0; `worst by chance`: what that stays under in 95 % of draws if no spec differs.

        Then of the attack: `informative`, whether its AUC on the original is above 0.5 by its interval; `finds overfitting`,
        whether it is so on overfitted classifiers, NaN if there are none; `a mask passes`, unless a mask's AUC is both
        above 0.5 and above the retrained one's by its intervals: then the attack gates nothing. NaN if there is no mask.

    Raises:
        BadRequest: an attack that has no original or no retrained classifier beside it.
    """
    rows = []
    for attack, part in found.groupby("attack", sort=False):
        by_kind = {str(kind): one.set_index(["forget", "model"])[list(FIGURES)] for kind, one in part.groupby("kind")}
        if missing := [kind for kind in (ORIGINAL, RETRAINED) if kind not in by_kind]:
            raise BadRequest(
                f"the attack {attack!r} has no control: there is no {missing[0]} classifier among {', '.join(by_kind)}"
            )
        kinds = [kind for kind in KINDS if kind in by_kind]
        own = {kind: _row(by_kind[kind], by_kind[RETRAINED], seed) for kind in kinds}
        standing = {
            "informative": own[ORIGINAL]["low"] > 0.5,
            "finds overfitting": own[OVERFITTED]["low"] > 0.5 if OVERFITTED in own else float("nan"),
            "a mask passes": _passes(own[MASKED]) if MASKED in own else float("nan"),
        }
        rows += [{"attack": attack, "kind": kind, **own[kind], **standing} for kind in kinds]
    return pd.DataFrame(rows)


def _row(figures: pd.DataFrame, retrained: pd.DataFrame, seed: int) -> dict[str, float]:
    """Figures of one kind: by themselves, and less those of its pairs."""
    low, high = interval(figures[AUC].to_numpy(), seed)
    row = {"classifiers": len(figures), AUC: figures[AUC].mean(), "low": low, "high": high}
    row |= {figure: figures[figure].mean(skipna=False) for figure in FIGURES[1:]}
    less = (figures - retrained).dropna(how="all")
    for figure in FIGURES:
        row[f"{figure} less retrained"] = less[figure].mean(skipna=False)
        row[f"{figure} less, low"], row[f"{figure} less, high"] = interval(less[figure].to_numpy(), seed)
    by_spec = less[AUC].groupby("forget").mean().to_numpy()
    row["worst spec"] = float(by_spec[np.abs(by_spec).argmax()]) if len(by_spec) else float("nan")
    row["worst by chance"] = _worst_by_chance(less[AUC], seed)
    return row


def _worst_by_chance(less: pd.Series, seed: int) -> float:
    """The furthest from 0 that the mean of a spec is, if all are 0: pairs of each, about their mean, drawn anew."""
    draw = generator_of(seed_of("worst by chance", seed))
    means = [draw.choice(one - one.mean(), (DRAWS, len(one))).mean(1) for _, one in less.groupby("forget")]
    return float(np.quantile(np.abs(means).max(0), 0.95)) if means else float("nan")


def _passes(row: dict[str, float]) -> bool:
    """Whether an attack finds no more members on classifiers of a kind than by chance, or no more than on retrained ones."""
    return not (row["low"] > 0.5 and row[f"{AUC} less, low"] > 0)
