"""scikit-learn's handwritten digits, which are embedded in its package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Given
from hf_mlops.data.splitting import stratified

FILE = Path("datasets", "data", "digits.csv.gz")  # in the package: 64 pixels of 0 to 16 a row, and the label


def read_digits() -> Given:
    """1,797 images of 8 by 8 pixels (UCI ML repository): 60 % for training, 20 % each for validation and test.

    Its file is read, and scikit-learn not imported, which takes a second or two of a request.

    Raises:
        BadRequest: scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise BadRequest("digits come with scikit-learn, which is not installed: pip install scikit-learn")
    rows = np.loadtxt(Path(package.origin).parent / FILE, np.float32, delimiter=",")
    images, labels = rows[:, :-1].reshape(-1, 1, 8, 8) / 16, rows[:, -1].astype(np.int64)
    train, rest = stratified(labels, int(0.6 * len(labels)))
    validation, test = (rest[rows] for rows in stratified(labels[rest], int(0.5 * len(rest))))
    splits = np.sort(train), np.sort(validation), np.sort(test)
    return Given("digits", tuple(map(str, range(10))), labels, splits, len(labels), lambda: images)
