"""What torchvision does for published data sets: it downloads them, and reads CIFAR-10, whose files are pickles."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torchvision.datasets
from torchvision.datasets import CIFAR10

from hf_mlops.data.given import Part


def download(class_name: str, root: Path) -> None:
    """Downloads and unpacks the data set of that class in `torchvision.datasets`, as far as it is not there."""
    getattr(torchvision.datasets, class_name)(root, download=True)


def cifar10_files() -> dict[str, str]:
    """The files of CIFAR-10, from the data folder on, with their MD5."""
    listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    return {f"{CIFAR10.base_folder}/{file}": digest for file, digest in listed}


def read_cifar10(root: Path) -> tuple[Part, Part, tuple[str, ...]]:
    """Images and labels for training and for testing, and the names of the classes."""
    with warnings.catch_warnings():  # of pickles as old as these, from NumPy 2.4.0 to 2.4.4
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    train_part, test_part = ((part.data.transpose(0, 3, 1, 2), np.array(part.targets)) for part in (train, test))
    return train_part, test_part, tuple(train.classes)
