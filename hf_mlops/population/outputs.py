"""Outputs: what classifiers answer to every image of a split, and what that is on average over each group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from array_api_compat import array_namespace, device
from jaxtyping import Bool, Float, Int, Int16

from hf_mlops.base.losses import log_softmax
from hf_mlops.data.dataset import Split

SUMMED_AT_ONCE = 512  # images, in the means over groups


@runtime_checkable
class Answering(Protocol):
    """What runs classifiers from their weights: a `Target` on tensors, an `OnnxHypernetwork` on arrays of NumPy."""

    def log_probabilities(
        self, weights: Float[Any, "models params"], images: Float[Any, "images channels height width"]
    ) -> Float[Any, "models images classes"]:
        """Of every class."""


@dataclass(frozen=True)
class Outputs:
    """What M targets answer to every image of a split; made by `of_targets`, or by `of` from log probabilities.

    Args:
        log_probabilities: float32, of every class.
        labels: the class of each image.
        groups: the group of each image; -1 of none.
        apart: as of a `Split`.
        group_means: mean loss, accuracy and confidence on each group, as the properties give them one by one.
    """

    log_probabilities: Float[Any, "models images classes"]
    labels: Int[Any, " images"]
    groups: Int[Any, " images"]
    apart: Bool[Any, " images"] | None
    group_means: Float[Any, "3 models groups"]

    @classmethod
    def of_targets(cls, target: Answering, weights: Float[Any, "models params"], split: Split, group_count: int) -> Outputs:
        """Runs targets on a split of the same library, on the same device."""
        return cls.of(target.log_probabilities(weights, split.images), split.labels, split.groups, group_count, split.apart)

    @classmethod
    def of(
        cls,
        log_probabilities: Float[Any, "models images classes"],
        labels: Int[Any, " images"],
        groups: Int[Any, " images"],
        group_count: int,
        apart: Bool[Any, " images"] | None = None,
    ) -> Outputs:
        """Log probabilities, and their means over each of so many groups, NaN for a group without an image.

        Sums go over `SUMMED_AT_ONCE` images, then over such parts. In another order the last bits would be others, and so
        would be every hypernetwork that is trained on a population measured here.
        """
        xp, where = array_namespace(log_probabilities), device(log_probabilities)
        member = xp.astype(groups[:, None] == xp.arange(group_count, device=where), xp.float32)
        count = xp.sum(member, axis=0)
        member = member / xp.where(count == 0, xp.nan, count)  # (images, groups): values times this are means
        means = xp.zeros((3, len(log_probabilities), group_count), dtype=xp.float32, device=where)
        endless = xp.zeros_like(means)  # share of images whose measure is infinite: their class is left out
        for first in range(0, len(labels), SUMMED_AT_ONCE):
            part = slice(first, first + SUMMED_AT_ONCE)
            answers = log_probabilities[:, part, :]
            right = xp.astype(xp.argmax(answers, axis=-1) == labels[part], xp.float32)
            confidence = xp.exp(xp.max(answers, axis=-1))
            measures = xp.stack([_cross_entropies(answers, labels[part]), right, confidence])
            means = means + xp.where(xp.isinf(measures), 0.0, measures) @ member[part, :]
            endless = endless + xp.astype(xp.isinf(measures), xp.float32) @ member[part, :]
        return cls(log_probabilities, labels, groups, apart, xp.where(endless > 0, xp.inf, means))

    @cached_property
    def image_losses(self) -> Float[Any, "models images"]:
        """Cross-entropy on each image, nats."""
        return _cross_entropies(self.log_probabilities, self.labels)

    @cached_property
    def right(self) -> Bool[Any, "models images"]:
        """Whether the class predicted is that of the label."""
        return self.predictions == self.labels

    @property
    def losses(self) -> Float[Any, "models groups"]:
        """Mean cross-entropy on each group, nats."""
        return self.group_means[0, ...]

    @property
    def accuracies(self) -> Float[Any, "models groups"]:
        """Accuracy on each group, 0 to 1."""
        return self.group_means[1, ...]

    @property
    def confidences(self) -> Float[Any, "models groups"]:
        """Mean probability of the class predicted, on each group."""
        return self.group_means[2, ...]

    @cached_property
    def predictions(self) -> Int16[Any, "models images"]:
        """The most probable class of each image."""
        xp = array_namespace(self.log_probabilities)
        return xp.astype(xp.argmax(self.log_probabilities, axis=-1), xp.int16)

    def without(self, classes: Bool[Any, " classes"]) -> Outputs:
        """The same models with some classes left out of their answers."""
        xp = array_namespace(self.log_probabilities)
        answers = xp.where(classes, -xp.inf, self.log_probabilities)
        return Outputs.of(log_softmax(answers), self.labels, self.groups, self.group_means.shape[2], self.apart)

    def each(self, changed: Callable[[Any], Any]) -> Outputs:
        """The same outputs with each of their arrays changed: to another library, or device."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return Outputs(**{name: None if array is None else changed(array) for name, array in held.items()})

    def only(self, models: Bool[Any, " models"] | list[int]) -> Outputs:
        """Those of some of the models, by mask or by index.

        Means are taken over, not summed up anew: a product of fewer rows may round otherwise.
        """
        return replace(self, log_probabilities=self.log_probabilities[models], group_means=self.group_means[:, models])


def _cross_entropies(
    log_probabilities: Float[Any, "models images classes"], labels: Int[Any, " images"]
) -> Float[Any, "models images"]:
    """Of each model on each image, nats."""
    xp = array_namespace(log_probabilities)
    truth = xp.broadcast_to(labels[None, :, None], (*log_probabilities.shape[:2], 1))
    return -xp.take_along_axis(log_probabilities, truth, axis=-1)[..., 0]
