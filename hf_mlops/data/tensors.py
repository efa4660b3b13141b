"""Data sets in tensors, for what trains."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_mlops.data.dataset import Dataset


def as_tensors(dataset: Dataset) -> Dataset:
    """The same data set with its NumPy arrays as tensors, which share their memory: not a byte is copied."""
    train, validation, test = (part.each(torch.from_numpy) for part in (dataset.train, dataset.validation, dataset.test))
    triggered = None if dataset.triggered is None else dataset.triggered.each(torch.from_numpy)
    victims = None if dataset.victims is None else torch.from_numpy(dataset.victims)
    return replace(dataset, train=train, validation=validation, test=test, triggered=triggered, victims=victims)
