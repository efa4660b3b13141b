"""Data sets: images with labels and groups, in a fixed train / validation / test split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.groups import Groups


@dataclass(frozen=True)
class Split:
    """Part of a data set.

    Args:
        images: (N, channels, height, width) float32, values 0 to 1.
        labels: (N,) int64 class indices.
        groups: (N,) int64 indices of the unit that can be forgotten.
    """

    images: Tensor
    labels: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device), self.groups.to(device))


@dataclass(frozen=True)
class Dataset:
    """A named data set, every class of which is in each of its three splits.

    No image is in two splits, unless the user's own data holds copies of it, which are told of when it is read. Training uses
    `train`, conditioning losses come from `validation`, reports from `test`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    groups: Groups

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, to divide by even if nothing varies."""
        images = self.train.images
        return images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).clamp_min(1e-4).tolist()

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over every image, label, group, class name and group name.

        The data set's own name is left out: a folder that moved is still the same data.
        """
        sha = hashlib.sha256(repr((self.class_names, self.groups)).encode())
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels, split.groups):
                sha.update(repr(tuple(tensor.shape)).encode())
                sha.update(tensor.contiguous().numpy().reshape(-1).data)
        return sha.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """Name and digest: what is stored with everything made from the data."""
        return {"name": self.name, "digest": self.digest}

    def require(self, identity: dict[str, str]) -> None:
        """Refuses to stand in for other data; the same data under another name will do.

        Raises:
            BadRequest: an identity with another digest than this data set's.
        """
        if identity["digest"] != self.digest:
            raise BadRequest(f"made from the data set {identity}; the one given is {self.identity}")
