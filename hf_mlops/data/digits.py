"""scikit-learn's handwritten digits, which are embedded in its package."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from hf_mlops.data.given import Given
from hf_mlops.data.splitting import stratified


def read_digits() -> Given:
    """1,797 images of 8 by 8 pixels (UCI ML repository): 60 % for training, 20 % each for validation and test."""
    raw = load_digits()
    images = raw.images.astype(np.float32)[:, None] / 16
    labels = raw.target.astype(np.int64)
    train, rest = stratified(labels, int(0.6 * len(labels)))
    validation, test = (rest[rows] for rows in stratified(labels[rest], int(0.5 * len(rest))))
    splits = np.sort(train), np.sort(validation), np.sort(test)
    return Given("digits", tuple(map(str, range(10))), labels, splits, len(labels), lambda: images)
