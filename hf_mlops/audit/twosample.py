"""Two-sample tests: can sampled classifiers be told from retrained ones by how they behave?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.losses import log_losses
from hf_mlops.data.dataset import Split
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

FOLDS = 5
JUDGES: dict[str, Callable[[int], BaseEstimator]] = {  # made from a seed
    "logistic regression": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    "gradient boosting": lambda seed: GradientBoostingClassifier(random_state=seed),
}


def behaviour(
    target: Target, weights: Float[Tensor, "models params"], split: Split, group_count: int
) -> Float[Tensor, "models features"]:
    """What a test sees of classifiers: the log loss on each group, then mean confidences, then accuracies."""
    outputs = Outputs.of_targets(target, weights, split, group_count)
    return torch.cat([log_losses(outputs.losses), outputs.confidences, outputs.accuracies], 1)


def tell_apart(
    first: Float[Tensor, "rows features"],
    second: Float[Tensor, "others features"],
    seed: int = 0,
    judges: Iterable[str] = JUDGES,
) -> dict[str, float]:
    """How well two sets of rows can be told apart.

    Returns:
        for each of the judges, by default all, the area under the ROC curve, mean over `FOLDS` cross-validation folds: 0.5 is
        chance, 1 is always.

    Raises:
        BadRequest: fewer rows than folds in one of the sets.
    """
    if min(len(first), len(second)) < FOLDS:
        raise BadRequest(f"{len(first)} and {len(second)} rows cannot be told apart; allowed: at least {FOLDS} of each")
    features = torch.cat([first, second]).numpy()
    labels = np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return {
        name: float(cross_val_score(JUDGES[name](seed), features, labels, cv=folds, scoring="roc_auc").mean())
        for name in judges
    }
