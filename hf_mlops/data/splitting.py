"""Splits of the user's own data, in which no class is missing anywhere.

With a test set of its own, a tenth of the training images of each class become validation; without one, each class is split
60 / 20 / 20. A split depends on nothing but the labels and their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.groups import Groups
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset, Split


def check_classes(name: str, class_names: Sequence[str], labels: Tensor, test_labels: Tensor | None = None) -> None:
    """Refuses classes that cannot be split, forgotten or told apart.

    Args:
        name: what errors call the data set.
        labels: (N,) int64, indices of class names; of all images, or of the training images where `test_labels` is given.
        test_labels: (N,) int64.

    Raises:
        BadRequest: says which class, and what is allowed.
    """
    if len(class_names) < 2:
        raise BadRequest(
            f"{name} has {len(class_names)} class{'es' * (not class_names)}; allowed: 2 or more, since one is to be forgotten"
        )
    slugs: dict[str, str] = {}
    for index, class_name in enumerate(class_names):
        slug = ForgetSpec.of([index], class_names).slug  # part of the alias that a classifier is registered under
        if class_name != class_name.strip() or "," in class_name or not any(c.isascii() and c.isalnum() for c in class_name):
            raise BadRequest(
                f"{name}: the class name {class_name!r} is not allowed; allowed: text with a letter a-z or a digit in it,"
                " without a comma and without a space at either end"
            )
        if slug in slugs:
            raise BadRequest(
                f"{name}: the class names {slugs[slug]!r} and {class_name!r} are not told apart by a forget spec or an alias;"
                " allowed: names that differ in letters a-z or digits, upper and lower case being alike"
            )
        slugs[slug] = class_name
    needs = [("", labels, 3)] if test_labels is None else [("training ", labels, 2), ("test ", test_labels, 1)]
    for kind, given, needed in needs:
        for class_name, count in zip(class_names, torch.bincount(given, minlength=len(class_names)).tolist(), strict=True):
            if count < needed:
                raise BadRequest(
                    f"{name}: the class {class_name!r} has {count} {kind}images; allowed: at least {needed}, for every split"
                )


def divide(name: str, class_names: Sequence[str], images: Tensor, labels: Tensor, test_labels: Tensor | None = None) -> Dataset:
    """Splits checked data; groups are classes.

    Args:
        images: (N, channels, height, width) float32, 0 to 1; the test images, if they are given, come last.
        labels: (N,) int64, without those of the test images.
        test_labels: (N,) int64.
    """
    everything = labels if test_labels is None else torch.cat([labels, test_labels])
    train, test = torch.arange(len(everything)).split([len(labels), len(everything) - len(labels)])
    if test_labels is None:
        train, test = _cut(train, labels, 0.2)
    train, validation = _cut(train, labels, 0.25 if test_labels is None else 0.1)

    def part(index: Tensor) -> Split:
        return Split(images[index], everything[index], everything[index])

    return Dataset(name, part(train), part(validation), part(test), tuple(class_names), Groups.of_classes(class_names))


def _cut(index: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """What is left and what is cut off: of each class its share, at least one image and, of two or more, never all."""
    random = np.random.RandomState(0)  # its stream is the same in every NumPy
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = index[labels[index] == label]
        chosen[members[random.permutation(len(members))[: max(1, round(share * len(members)))]]] = True
    return index[~chosen[index]], index[chosen[index]]
