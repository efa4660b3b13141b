"""What classifiers answer to D_f, one by one and together: how sure they are, and how far they agree with retrained ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot
from torch.special import entr

from hf_mlops.audit.measure import Measured


def entropy(measured: Measured) -> Float[Tensor, " models"]:
    """Entropy of each classifier's answers, nats, mean over the images in D_f; NaN if there are none."""
    return entr(_on_forget_set(measured)).sum(-1).mean(1)


def mutual_information(measured: Measured) -> float:
    """How much of the entropy on D_f is that classifiers answer differently: H(mean) less the mean of H, nats.

    It is 0 of one classifier, or of many alike. Source: Gal et al., arXiv 1703.02910; ensembles in Lakshminarayanan et al.,
    arXiv 1612.01474.
    """
    together = entr(_on_forget_set(measured).mean(0)).sum(-1).mean()
    return float(together - entropy(measured).mean())


def agreement(measured: Measured, others: Measured) -> Float[Tensor, " models"]:
    """Share of the images in D_f that each classifier predicts as another does, mean over the others.

    Args:
        others: on the same images. Itself, and each is held beside the rest of them; NaN where there is no rest.
    """
    images = measured.to_forget
    votes = one_hot(others.predictions[:, images].long(), measured.outputs.log_probabilities.shape[-1]).sum(0)
    alike = votes.gather(1, measured.predictions[:, images].long().T).T.float()  # (models, images): how many say the same
    count = len(others.predictions)
    if others is measured:  # each has voted for itself
        alike, count = alike - 1, count - 1
    return alike.mean(1) / count if count else torch.full((len(alike),), torch.nan)


def _on_forget_set(measured: Measured) -> Float[Tensor, "models images classes"]:
    """Probabilities of every class."""
    return measured.outputs.log_probabilities[:, measured.to_forget].exp()
