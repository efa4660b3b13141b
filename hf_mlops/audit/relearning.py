"""Relearning: how fast a classifier learns D_f again from a few images. One that only hides a class has it back at once.

Source: relearn time of Golatkar et al., arXiv 1911.04933, and Tarun et al., arXiv 2111.08947.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_mlops.audit.measure import sets_of
from hf_mlops.audit.residual import few
from hf_mlops.base.noise import seed_of
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.config import OPTIMISERS
from hf_mlops.population.target import Target

EACH = 50  # images of each class, of D_f and of D_r
RATE = 0.04  # of SGD with Nesterov momentum 0.9: five steps give a mask all of D_f and a retrained target hardly any of it
EARLY, GOAL, CAP = 5, 0.9, 60  # steps, accuracy on D_f, steps at most


def relearn(
    target: Target,
    weights: Float[Tensor, "models params"],
    spec: ForgetSpec,
    dataset: Dataset,
    seed: int = 0,
    steps: int = CAP,
) -> Float[Tensor, "steps models"]:
    """Accuracy on the test images of D_f before and after each of so many steps of relearning.

    Every step is on the same `EACH` training images of every class, of D_f and of D_r, and all of them count alike. On images
    of D_f alone, or with half of the weight on them, a few steps turn any classifier over to D_f: a mask is still told from
    retraining, but not what a hidden layer has kept of a set that only composed targets taught.

    Args:
        seed: of the choice of images; classifiers of a spec are all given the same.

    Raises:
        BadRequest: a class with fewer images.
    """
    train, test = dataset.train, dataset.test
    chosen = few(train.labels, EACH, seed_of("relearning", seed, str(spec)))
    images, labels = train.images[chosen], train.labels[chosen].expand(len(weights), -1)
    judged = sets_of(spec, test.groups)[1]
    state = {name: tensor.clone().requires_grad_() for name, tensor in target.unflatten(weights).items()}
    optimiser = OPTIMISERS["sgd"](state.values(), lr=RATE)
    curve = []
    for step in range(steps + 1):
        with torch.no_grad():
            found = target.stacked_logits(state, test.images[judged]).argmax(-1)
            curve.append((found == test.labels[judged]).float().mean(1))
        if step < steps:
            logits = target.stacked_logits(state, images)  # (models, images, classes)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
            optimiser.zero_grad()
            loss.mean(1).sum().backward()  # classifiers share no parameter: the sum's gradient is each one's own
            optimiser.step()
    return torch.stack(curve)


def relearned(curve: Float[Tensor, "steps models"]) -> dict[str, Float[Tensor, " models"]]:
    """From `relearn`: accuracy on D_f after `EARLY` steps, steps to `GOAL`, and whether that was never reached.

    One that never comes there counts as having taken all the steps, so that a mean is at least what it says.
    """
    there = curve >= GOAL
    never = ~there.any(0)
    return {
        f"relearnt, after {EARLY} steps": curve[EARLY],
        f"relearnt, steps to {GOAL:.0%}": there.float().argmax(0).float().where(~never, len(curve) - 1.0),
        f"relearnt, not in {len(curve) - 1} steps": never.float(),
    }
