"""Detection: how well scores tell members of a training set from others, and how sure that is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from hf_mlops.base.noise import generator_of, seed_of

AUC = "AUC"
RATES = {"TPR at 1 %": 0.01, "TPR at 0.1 %": 0.001}  # figure: the share of others that may be called members
DRAWS = 2000  # of a bootstrap


def detection(members: Float[NDArray, " members"], others: Float[NDArray, " others"]) -> dict[str, float]:
    """How well scores, the higher the more like a member, tell members from others.

    Returns:
        `AUC`, the area under the ROC curve: 0.5 is chance; and the figures in `RATES`: the largest share of members found
        by a threshold that calls no more than that share of the others members. NaN where fewer than 1 / share others were
        scored, since one of them is more than that.

    Source: Carlini et al., "Membership inference attacks from first principles", arXiv 2112.03570, for what is judged.
    """
    truth = np.repeat([1, 0], [len(members), len(others)])
    scores = np.concatenate([members, others])
    wrongly, rightly, _ = roc_curve(truth, scores, drop_intermediate=False)
    found = {AUC: float(roc_auc_score(truth, scores))}
    for figure, share in RATES.items():
        found[figure] = float(rightly[wrongly <= share].max()) if len(others) * share >= 1 else float("nan")
    return found


def interval(values: Float[NDArray, " values"], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, by percentiles; NaN if a value is, or if there are fewer than two.

    Source: Efron, Annals of Statistics 7 (1979).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    means = generator_of(seed_of("interval", seed)).choice(values, (DRAWS, len(values))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
