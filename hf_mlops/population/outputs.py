"""Outputs: what targets answer to every image of a split, and what that is on average over each group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Int16
from torch import Tensor
from torch.nn.functional import one_hot

from hf_mlops.data.dataset import Split
from hf_mlops.population.target import Target

IMAGES_AT_ONCE = 512  # run together, and summed up together in the means over groups


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

    log_probabilities: Float[Tensor, "models images classes"]
    labels: Int[Tensor, " images"]
    groups: Int[Tensor, " images"]
    apart: Bool[Tensor, " images"] | None
    group_means: Float[Tensor, "3 models groups"]

    @classmethod
    @torch.no_grad()
    def of_targets(cls, target: Target, weights: Float[Tensor, "models params"], split: Split, group_count: int) -> Outputs:
        """Runs targets on a split that is on the same device."""
        log_probabilities = torch.empty(len(weights), len(split), target.classes, device=weights.device)
        for part in torch.arange(len(split), device=weights.device).split(IMAGES_AT_ONCE):
            log_probabilities[:, part] = target.logits(weights, split.images[part]).log_softmax(-1)
        return cls.of(log_probabilities, split.labels, split.groups, group_count, split.apart)

    @classmethod
    def of(
        cls,
        log_probabilities: Float[Tensor, "models images classes"],
        labels: Int[Tensor, " images"],
        groups: Int[Tensor, " images"],
        group_count: int,
        apart: Bool[Tensor, " images"] | None = None,
    ) -> Outputs:
        """Log probabilities, and their means over each of so many groups, NaN for a group without an image.

        Sums go over `IMAGES_AT_ONCE` images, then over such parts. In another order the last bits would be others, and so
        would be every hypernetwork that is trained on a population measured here.
        """
        member = one_hot(groups + 1, group_count + 1)[:, 1:].float()
        member = member / member.sum(0)  # (images, groups): values times this are means
        means = torch.zeros(3, len(log_probabilities), group_count, device=log_probabilities.device)
        for part in torch.arange(len(labels), device=labels.device).split(IMAGES_AT_ONCE):
            answers = log_probabilities[:, part]
            confidence, predicted = answers.max(-1)
            right = (predicted == labels[part]).float()
            means += torch.stack([_cross_entropies(answers, labels[part]), right, confidence.exp()]) @ member[part]
        return cls(log_probabilities, labels, groups, apart, means)

    @cached_property
    def image_losses(self) -> Float[Tensor, "models images"]:
        """Cross-entropy on each image, nats."""
        return _cross_entropies(self.log_probabilities, self.labels)

    @cached_property
    def right(self) -> Bool[Tensor, "models images"]:
        """Whether the class predicted is that of the label."""
        return self.predictions == self.labels

    @property
    def losses(self) -> Float[Tensor, "models groups"]:
        """Mean cross-entropy on each group, nats."""
        return self.group_means[0]

    @property
    def accuracies(self) -> Float[Tensor, "models groups"]:
        """Accuracy on each group, 0 to 1."""
        return self.group_means[1]

    @property
    def confidences(self) -> Float[Tensor, "models groups"]:
        """Mean probability of the class predicted, on each group."""
        return self.group_means[2]

    @cached_property
    def predictions(self) -> Int16[Tensor, "models images"]:
        """The most probable class of each image."""
        return self.log_probabilities.max(-1).indices.to(torch.int16)

    def without(self, classes: Bool[Tensor, " classes"]) -> Outputs:
        """The same models with some classes left out of their answers."""
        answers = self.log_probabilities.masked_fill(classes, -torch.inf).log_softmax(-1)
        return Outputs.of(answers, self.labels, self.groups, self.group_means.shape[2], self.apart)

    def only(self, models: Bool[Tensor, " models"] | list[int]) -> Outputs:
        """Those of some of the models, by mask or by index.

        Means are taken over, not summed up anew: a product of fewer rows may round otherwise.
        """
        return replace(self, log_probabilities=self.log_probabilities[models], group_means=self.group_means[:, models])


def _cross_entropies(
    log_probabilities: Float[Tensor, "models images classes"], labels: Int[Tensor, " images"]
) -> Float[Tensor, "models images"]:
    """Of each model on each image, nats."""
    truth = labels.expand(len(log_probabilities), -1).unsqueeze(-1)  # (models, images, 1)
    return -log_probabilities.gather(-1, truth).squeeze(-1)
