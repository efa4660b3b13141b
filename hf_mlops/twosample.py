"""Two-sample tests: can sampled classifiers be told from retrained ones by how they behave?"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hf_mlops.data import Split
from hf_mlops.prompt import LOSS_FLOOR
from hf_mlops.targets import Target

FOLDS = 5


def behaviour(target: Target, weights: Tensor, split: Split, groups: int) -> Tensor:
    """What a test sees of N classifiers (N, P): for each group log loss, mean confidence and accuracy, (N, 3 G)."""
    metrics = target.group_metrics(weights, split, groups)
    return torch.cat([(metrics.losses + LOSS_FLOOR).log(), metrics.confidences, metrics.accuracies], 1)


def tell_apart(first: Tensor, second: Tensor, seed: int = 0) -> dict[str, float]:
    """How well two sets of feature rows, (N, F) and (M, F), can be told apart.

    Returns:
        for `logistic regression` and `gradient boosting` the area under the ROC curve, mean over `FOLDS` cross-validation
        folds: 0.5 is chance, 1 is always.

    Raises:
        ValueError: fewer rows than folds in one of the sets.
    """
    if min(len(first), len(second)) < FOLDS:
        raise ValueError(f"{len(first)} and {len(second)} rows cannot be told apart; allowed: at least {FOLDS} of each")
    features = torch.cat([first, second]).numpy()
    labels = np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    judges = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "gradient boosting": GradientBoostingClassifier(random_state=seed),
    }
    return {
        name: float(cross_val_score(judge, features, labels, cv=folds, scoring="roc_auc").mean())
        for name, judge in judges.items()
    }
