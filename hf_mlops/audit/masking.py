"""Masks in the weights: the control that has forgotten nothing, and no accuracy or loss on D_f tells from retraining."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.audit.hidden import last_layer
from hf_mlops.audit.measure import sets_of
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.target import Target

DEEPEST = 200.0  # nats


@torch.no_grad()
def mask_classes(
    target: Target, weights: Float[Tensor, "models params"], spec: ForgetSpec, dataset: Dataset, loss: float
) -> Float[Tensor, "models params"]:
    """Classifiers with the biases of the classes of a spec lowered until their mean loss on D_f is the one given.

    All else, the hidden layer above all, stays as it is. The depth is found by bisection, for each classifier its own.

    Args:
        dataset: on whose training images in D_f the loss is measured; groups are classes.
        loss: nats, such as that of retrained targets; a classifier that has a higher one already stays as it is.

    Raises:
        BadRequest: groups that are no classes, or a network whose last layer is not linear, or has no bias that is generated.
    """
    if not dataset.groups.are_classes:
        raise BadRequest(f"{str(spec)!r}: there is nothing to be masked where groups are no classes")
    bias = f"{last_layer(target)}.bias"
    if bias not in target.shapes:
        raise BadRequest(f"no class can be masked: {bias} is not among the generated parameters {', '.join(target.shapes)}")
    train = dataset.train
    forgotten, lowered = sets_of(spec, train.groups)[1], torch.tensor(spec.mask).float()
    logits, labels = target.logits(weights, train.images[forgotten]), train.labels[forgotten]
    low, high = torch.zeros(len(weights)), torch.full((len(weights),), DEEPEST)
    for _ in range(40):
        depth = (low + high) / 2
        answers = (logits - depth.view(-1, 1, 1) * lowered).log_softmax(-1)
        enough = -answers[:, torch.arange(len(labels)), labels].mean(1) >= loss
        low, high = low.where(enough, depth), depth.where(enough, high)
    state = target.unflatten(weights)
    return target.flatten({**state, bias: state[bias] - high.unsqueeze(1) * lowered})
