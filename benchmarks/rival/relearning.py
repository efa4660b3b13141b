"""Relearning: how fast a classifier that forgot is taught again."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.audit.measure import measure
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.config import OPTIMISERS
from hf_mlops.population.target import Target

EACH = 50  # training images of each class, of D_f and of D_r, the same in every step
STEPS, RATE = 5, 0.04  # of SGD with Nesterov momentum 0.9


def relearned(
    target: Target, weights: Float[Tensor, "models params"], spec: ForgetSpec, dataset: Dataset, seed: int
) -> Float[Tensor, " models"]:
    """Accuracy on the test images of D_f after `STEPS` steps of training on a few images of every class.

    What is left out of the answers besides is no part of the weights, and whoever teaches them leaves it away.

    Source: the relearn time of Golatkar et al. (arXiv 1911.04933) and of Tarun et al. (arXiv 2111.08947).
    """
    generator, train = generator_of(seed_of("relearning", seed, str(spec))), dataset.train
    of_class = [(train.labels == label).nonzero()[:, 0].numpy() for label in train.labels.unique()]
    few = torch.from_numpy(np.concatenate([generator.permutation(rows)[:EACH] for rows in of_class]))
    weights = weights.clone().requires_grad_()
    optimiser = OPTIMISERS["sgd"]([weights], lr=RATE)
    for _ in range(STEPS):
        answers = target.logits(weights, train.images[few]).log_softmax(-1)
        optimiser.zero_grad()
        loss = -answers.gather(-1, train.labels[few].expand(len(weights), -1).unsqueeze(-1)).mean((1, 2))
        loss.sum().backward()  # models share no parameter: the sum's gradient is each model's own
        optimiser.step()
    after = measure(target, weights.detach(), spec, dataset.test)
    return after.on_sets(after.accuracies)[1]
