"""Exposure: what a membership attack sees of a classifier, its answers to images it was trained on and to others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_mlops.audit.measure import LEAST, covered_classes, sets_of
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset, Split
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.target import Target

ENOUGH_IMAGES = 10  # members and others, each, in D_f and in D_r


@dataclass(frozen=True)
class Shown:
    """What one classifier answers to some images.

    Args:
        log_probabilities: of every class; -inf for one that is masked.
        labels: the class of each image.
    """

    log_probabilities: Float[Tensor, "images classes"]
    labels: Int[Tensor, " images"]

    @property
    def losses(self) -> Float[Tensor, " images"]:
        """Cross-entropy, nats; a probability under `LEAST` counts as that."""
        return -self.log_probabilities.gather(1, self.labels[:, None])[:, 0].clamp_min(log(LEAST))


@dataclass(frozen=True)
class Exposed:
    """What one classifier answers to training images in D_r and in D_f of a spec, and to test images of the same groups.

    Where no test image is in D_f, as of a customer, those beside D_f are all the test images in D_r.
    """

    retained: Shown
    retained_others: Shown
    forgotten: Shown
    forgotten_others: Shown

    @property
    def parts(self) -> list[Shown]:
        """All four, in this order."""
        return [getattr(self, field.name) for field in fields(self)]


def exposed(
    target: Target,
    weights: Float[Tensor, "models params"],
    made_from: dict[str, str],
    dataset: Dataset,
    spec: ForgetSpec,
    masked: bool = False,
) -> list[Exposed]:
    """What attacks see of each of some classifiers.

    Args:
        made_from: identity of the data set that they were trained on.
        masked: leaves the classes of the spec out of their answers.

    Raises:
        BadRequest: another data set, or fewer than `ENOUGH_IMAGES` images in one of the four sets.
    """
    dataset.require(made_from)

    def parts(split: Split) -> list[list[Shown]]:
        """Answers on D_r, then on D_f; a list for each classifier."""
        outputs = Outputs.of_targets(target, weights, split, len(dataset.groups))
        left_out = torch.from_numpy(covered_classes(dataset.groups, spec))
        answers = (outputs.without(left_out) if masked else outputs).log_probabilities
        return [[Shown(one[part], split.labels[part]) for part in sets_of(spec, split.groups)] for one in answers]

    seen = [
        Exposed(retained, others, forgotten, forgotten_others if len(forgotten_others.labels) else others)
        for (retained, forgotten), (others, forgotten_others) in zip(parts(dataset.train), parts(dataset.test), strict=True)
    ]
    counts = [len(part.labels) for part in seen[0].parts]
    if min(counts) < ENOUGH_IMAGES:
        raise BadRequest(
            f"with {', '.join(map(str, counts))} images in training and test in D_r and training and test in D_f an attack on"
            f" {str(spec) or 'nothing'} says nothing; allowed: at least {ENOUGH_IMAGES} of each"
        )
    return seen
