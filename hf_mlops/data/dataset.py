"""Data sets: images with labels and groups, in a fixed train / validation / test split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from jaxtyping import Bool, Float32, Int64

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.groups import Groups

if TYPE_CHECKING:
    import torch

LIMIT = 100  # groups
TOO_MANY = (
    f"allowed: 2 to {LIMIT}, since of 1,024 or 2,048 runs, as recipes have them, too few would forget each of more groups"
)

OWNED = 0.25  # share of a class
MEMBERS = (32, 256, 8192)  # training images that a group is measured on: at least, at most, and of all groups together


@dataclass(frozen=True)
class Split:
    """Part of a data set, in arrays of NumPy or in tensors.

    Args:
        images: (N, channels, height, width) float32, values 0 to 1.
        labels: (N,) int64 class indices.
        groups: (N,) int64 indices of the unit that can be forgotten; -1 for a held-out image that is of none.
        apart: (N,) bool, images that are never in D_r: training images that stand for groups without held-out ones, and images
            with an attacker's trigger, which are of no group. None: there are none.
    """

    images: Float32[Any, "images channels height width"]
    labels: Int64[Any, " images"]
    groups: Int64[Any, " images"]
    apart: Bool[Any, " images"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split on another device; of tensors alone."""
        return self.each(lambda tensor: tensor.to(device))

    def only(self, index: Int64[Any, " _"] | Bool[Any, " _"]) -> Split:
        """Some of the images, by index or by mask."""
        return self.each(lambda array: array[index])

    def beside(self, others: Split) -> Split:
        """These images, and behind them others that are apart."""
        xp = array_namespace(self.labels)
        mine = xp.zeros_like(self.labels, dtype=xp.bool) if self.apart is None else self.apart
        return Split(
            xp.concat([self.images, others.images]),
            xp.concat([self.labels, others.labels]),
            xp.concat([self.groups, others.groups]),
            xp.concat([mine, xp.ones_like(others.labels, dtype=xp.bool)]),
        )

    def each(self, changed: Callable[[Any], Any]) -> Split:
        """The split whose images, labels, groups and mask are made of those of this one."""
        apart = None if self.apart is None else changed(self.apart)
        return Split(changed(self.images), changed(self.labels), changed(self.groups), apart)


@dataclass(frozen=True)
class Dataset:
    """A named data set, every class of which is in each of its three splits.

    No image is in two splits, unless the user's own data holds copies of it, which are told of when it is read. Training uses
    `train`, conditioning losses come from `conditioning`, reports from `audited`.

    Args:
        train: each image is in a group.
        validation, test: of groups that have held-out images, and of none.
        grouping: how `load_dataset` was told to group the training images; empty: as the data come.
        triggered: test images that carry what an attacker planted, with the labels that the attacker wants.
        victims: the indices of the test images that they were made of.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    groups: Groups
    grouping: str = ""
    triggered: Split | None = None
    victims: Int64[Any, " _"] | None = None

    @cached_property
    def conditioning(self) -> Split:
        """What the losses of each group are taken on: its validation images, or else training images of its own."""
        measured = self._measured(self.validation)
        grouped = measured.groups >= 0
        return replace(measured if grouped.all() else measured.only(grouped), apart=None)

    @cached_property
    def audited(self) -> Split:
        """What audits look at: the test images; of groups that none of them stands for, training images; and triggered ones."""
        measured = self._measured(self.test)
        return measured.beside(self.triggered) if self.triggered else measured

    def _measured(self, split: Split) -> Split:
        """A held-out split, and behind it training images of each group that is not measured on held-out ones."""
        if all(self.groups.held_out):
            return split
        xp = array_namespace(split.groups)
        held_out = xp.asarray([*self.groups.held_out, False])  # the last of images that are of no group
        index = xp.concat([self._members(group) for group, held in enumerate(self.groups.held_out) if not held])
        return replace(split, groups=xp.where(held_out[split.groups], split.groups, -1)).beside(self.train.only(index))

    def _members(self, group: int) -> Int64[Any, " members"]:
        """Indices of the training images that a group is measured on, evenly out of all of its own."""
        least, most, together = MEMBERS
        xp = array_namespace(self.train.groups)
        (own,) = xp.nonzero(self.train.groups == group)
        count = min(len(own), most, max(least, together // len(self.groups)))
        return own[xp.arange(count) * len(own) // count]

    def each(self, changed: Callable[[Any], Any]) -> Dataset:
        """The data set whose arrays are made of those of this one: by `np.asarray`, say."""
        train, validation, test = (part.each(changed) for part in (self.train, self.validation, self.test))
        triggered = None if self.triggered is None else self.triggered.each(changed)
        victims = None if self.victims is None else changed(self.victims)
        return replace(self, train=train, validation=validation, test=test, triggered=triggered, victims=victims)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, to divide by even if nothing varies."""
        images, axes = self.train.images, (0, 2, 3)
        if is_numpy_array(images):  # whose sums in float32 may be off by the half
            mean, spread = images.mean(axes, np.float64), images.std(axes, np.float64, ddof=1)
        else:  # in float32, since populations are of these very bits
            mean, spread = images.mean(axes), images.std(axes)
        return mean.tolist(), spread.clip(1e-4, None).tolist()

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over every image, label, group, class name and group name.

        The data set's own name is left out: a folder that moved is still the same data.
        """
        sha = hashlib.sha256(repr((self.class_names, self.groups)).encode())
        for split in (self.train, self.validation, self.test, *([self.triggered] if self.triggered else [])):
            for array in (split.images, split.labels, split.groups):
                sha.update(repr(tuple(array.shape)).encode())
                sha.update(np.ascontiguousarray(array).reshape(-1).data)
        return sha.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """Name, grouping and digest: what is stored with everything made from the data."""
        return {"name": self.name, "grouping": self.grouping, "digest": self.digest}

    def require(self, identity: dict[str, str]) -> None:
        """Refuses to stand in for other data; the same data under another name will do.

        Raises:
            BadRequest: an identity with another digest than this data set's.
        """
        if identity["digest"] != self.digest:
            raise BadRequest(f"made from the data set {identity}; the one given is {self.identity}")


def grouped(names: Sequence[str], class_count: int, train: Split, validation: Split, test: Split) -> Groups:
    """The groups of a data set, from its splits.

    A group is measured on held-out images if there are some of it in validation and test, and if it holds a good part, from
    `OWNED` on, of the training images of some class: without it new images are taken for something else.
    """
    count = len(names)
    labels, groups, *held_out = (np.asarray(some) for some in (train.labels, train.groups, validation.groups, test.groups))
    held = np.bincount(labels * count + groups, minlength=class_count * count).reshape(class_count, count)
    owned = (held >= OWNED * held.sum(1, keepdims=True)).any(0)
    there = [np.bincount(some + 1, minlength=count + 1)[1:] > 0 for some in held_out]
    holders = tuple(tuple(np.flatnonzero(row).tolist()) for row in held)
    return Groups(tuple(names), holders, tuple((owned & there[0] & there[1]).tolist()))
