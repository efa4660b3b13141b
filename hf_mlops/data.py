"""Data sets: images with labels and groups, in a fixed train / validation / test split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


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
    """A named data set; the three splits never share an image.

    Training uses `train`, conditioning losses come from `validation`, reports from `test`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images."""
        images = self.train.images
        return images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).tolist()

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over every image, label, group and name."""
        sha = hashlib.sha256(repr((self.name, self.class_names, self.group_names)).encode())
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels, split.groups):
                sha.update(tensor.contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """Name and digest: what is stored with everything made from the data."""
        return {"name": self.name, "digest": self.digest}

    def require(self, identity: dict[str, str]) -> None:
        """Refuses to stand in for other data.

        Raises:
            ValueError: an identity that is not this data set's.
        """
        if identity != self.identity:
            raise ValueError(f"made from the data set {identity}; the one given is {self.identity}")


def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, embedded in its package (UCI ML repository)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8)
    labels = torch.from_numpy(raw.target).long()

    def part(indices: list[int]) -> Split:
        index = torch.tensor(sorted(indices))
        return Split(images[index], labels[index], labels[index])

    train, rest = train_test_split(range(len(labels)), train_size=0.6, random_state=0, stratify=labels)
    validation, test = train_test_split(rest, train_size=0.5, random_state=0, stratify=labels[rest])
    names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", part(train), part(validation), part(test), names, names)


DATASETS: dict[str, Callable[[], Dataset]] = {"digits": _digits}


def load_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; allowed: {', '.join(DATASETS)}")
    return DATASETS[name]()
