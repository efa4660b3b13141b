"""A judge of membership that is told every log probability, and learns from other worlds what members look like."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.audit.likelihood import class_means
from hf_mlops.audit.worlds import pairs


def boosted_scores(
    log_probabilities: Float[Tensor, "worlds models images classes"],
    members: Bool[Tensor, "worlds images"],
    labels: Int[Tensor, " images"],
    seed: int = 0,
) -> Float[Tensor, "worlds models images"]:
    """How much each image looks like a member to boosted trees that were trained on all other pairs of worlds: log odds.

    They see log probabilities less their mean in worlds that the image is not in, the true class first, then the others by that
    mean, all about a classifier's mean on the images of the class. Neither these means nor the trees know the pair that is
    judged; means for worlds that trees are trained on do not know those either.

    Source: after the learnt attacks of Shokri et al., "Membership Inference Attacks Against Machine Learning Models" (arXiv
    1610.05820), with the difficulty of an image taken off as in LiRA (`likelihood.py`).

    Args:
        log_probabilities: of classifiers of one kind. To judge several by their mean, give that as one.
        members: which images each world was trained on; worlds are pairs, as of `worlds.halves`.
        labels: the class of each image.

    Raises:
        BadRequest: worlds that `worlds.pairs` refuses.
    """
    every, scores = list(pairs(members)), torch.empty(log_probabilities.shape[:-1])
    means = log_probabilities.float().mean(1)  # (worlds, images, classes)
    for judged in every:
        seen, truth = [], []
        for other in every:
            if not torch.equal(other, judged):
                usual = _usual(means, ~members & ~(judged | other)[:, None])
                seen.append(_features(log_probabilities[other].float(), usual, labels))
                truth.append(members[other][:, None].expand(-1, log_probabilities.shape[1], -1).flatten())
        trees = HistGradientBoostingClassifier(max_leaf_nodes=8, early_stopping=False, random_state=seed)
        trees.fit(torch.cat(seen).numpy(), torch.cat(truth).numpy())
        usual = _usual(means, ~members & ~judged[:, None])
        found = trees.decision_function(_features(log_probabilities[judged].float(), usual, labels).numpy())
        scores[judged] = torch.from_numpy(found).float().view(scores[judged].shape)
    return scores


def _usual(
    means: Float[Tensor, "worlds images classes"], outside: Bool[Tensor, "worlds images"]
) -> Float[Tensor, "images classes"]:
    """Mean over the worlds that are told for each image."""
    weight = outside.float() / outside.sum(0)
    return (weight[..., None] * means).sum(0)


def _features(
    log_probabilities: Float[Tensor, "worlds models images classes"],
    usual: Float[Tensor, "images classes"],
    labels: Int[Tensor, " images"],
) -> Float[Tensor, "rows classes"]:
    """What trees see of each world, classifier and image."""
    own = one_hot(labels, usual.shape[-1]).bool()
    order = usual.masked_fill(own, torch.inf).sort(descending=True).indices  # the true class first
    off = log_probabilities - usual
    off = off - class_means(off.mT, labels).mT
    return off.gather(-1, order.expand_as(off)).flatten(0, -2)
