"""Residual knowledge: what of D_f can be got back from a classifier's hidden layer with a few images and no more training.

A masked classifier answers as if it had forgotten, and its hidden layer knows the class as well as ever. Each figure is to be
read beside that of targets retrained for the very spec: their hidden layer has never seen the class, and still separates it
rather well, since classes look different.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hf_mlops.audit.hidden import hidden
from hf_mlops.audit.measure import sets_of
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.target import Target

PROBED = 200  # training images of each class that a probe is fitted on, at most
REFITTED, PROTOTYPES = (10, 50), (1, 5)  # images of each class

Recover = Callable[[Tensor, Tensor, Tensor], Tensor]  # hidden and labels of a few images, hidden of others: their classes


def few(labels: Int[Tensor, " images"], each: int, seed: int, at_most: bool = False) -> Int[Tensor, " few"]:
    """Indices of so many images of each class, drawn at random.

    Args:
        seed: from `noise.seed_of`.
        at_most: of a class that has fewer take all, instead of refusing.

    Raises:
        BadRequest: a class that has fewer.
    """
    rng, chosen = generator_of(seed), []
    for label in labels.unique().tolist():
        own = rng.permutation(np.flatnonzero(labels.numpy() == label))
        if len(own) < each and not at_most:
            raise BadRequest(f"{each} images of each class are not to be had; class {label} has {len(own)}")
        chosen.append(own[:each])
    return torch.from_numpy(np.concatenate(chosen))


def probe(
    seen: Float[Tensor, "images hidden"],
    wanted: Bool[Tensor, " images"],
    others: Float[Tensor, "others hidden"],
    truth: Bool[Tensor, " others"],
) -> float:
    """Area under the ROC curve of D_f against D_r on other images, of a logistic regression on hidden activations.

    Source: linear probes, Alain and Bengio, arXiv 1610.01644.
    """
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(seen.numpy(), wanted.numpy())
    return float(roc_auc_score(truth.numpy(), judge.decision_function(others.numpy())))


def refit(
    seen: Float[Tensor, "images hidden"], labels: Int[Tensor, " images"], others: Float[Tensor, "others hidden"]
) -> Int[Tensor, " others"]:
    """Classes of other images by a last layer fitted anew, a logistic regression on standardised hidden activations."""
    layer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(seen.numpy(), labels.numpy())
    return torch.from_numpy(layer.predict(others.numpy()))


def nearest_prototype(
    seen: Float[Tensor, "images hidden"], labels: Int[Tensor, " images"], others: Float[Tensor, "others hidden"]
) -> Int[Tensor, " others"]:
    """Classes of other images by the nearest of the classes' mean hidden activations.

    Source: prototypical networks, Snell et al., arXiv 1703.05175.
    """
    classes = labels.unique()
    means = torch.stack([seen[labels == one].mean(0) for one in classes])
    return classes[torch.cdist(others, means).argmin(1)]


WAYS: dict[str, tuple[Recover, int]] = {
    **{f"last layer refitted, k = {k}": (refit, k) for k in REFITTED},
    **{f"prototypes, k = {k}": (nearest_prototype, k) for k in PROTOTYPES},
}


def residual(
    target: Target, weights: Float[Tensor, "models params"], spec: ForgetSpec, dataset: Dataset, seed: int = 0
) -> dict[str, Float[Tensor, " models"]]:
    """What of D_f can be got back from the hidden layer of each classifier, on the test images.

    Args:
        dataset: whose groups are classes; images to fit on come from its train split.
        seed: of the choice of these images. Classifier i of any kind is given the same ones.

    Returns:
        `probe, AUC`: of a `probe` on up to `PROBED` training images of each class; and for every one of `WAYS` the accuracy on
        D_f among all classes, where k images of each class, of D_f and D_r alike, are to be had.

    Raises:
        BadRequest: an empty D_f, groups that are no classes, a class with fewer images than k, or a network without a last
            linear layer.
    """
    if not spec.groups or not dataset.groups.are_classes:
        raise BadRequest(f"{str(spec)!r}: there is nothing to be got back; allowed: a spec of one or more classes")
    train, test = dataset.train, dataset.test
    forgotten = sets_of(spec, test.groups)[1]
    probed = few(train.labels, PROBED, seed_of("probe", seed, str(spec)), at_most=True)
    result = {name: torch.zeros(len(weights)) for name in ("probe, AUC", *WAYS)}
    for index, one in enumerate(weights):
        others, fitted = (hidden(target, one[None], images)[0] for images in (test.images, train.images[probed]))
        result["probe, AUC"][index] = probe(fitted, sets_of(spec, train.groups)[1][probed], others, forgotten)
        for name, (recover, each) in WAYS.items():
            given = few(train.labels, each, seed_of("few", seed, str(spec), name, index))
            seen = hidden(target, one[None], train.images[given])[0]
            found = recover(seen, train.labels[given], others[forgotten])
            result[name][index] = (found == test.labels[forgotten]).float().mean()
    return result
