"""Data sets by name: scikit-learn's digits, published ones through torchvision, the user's own from a folder or file."""

from __future__ import annotations

import os
from pathlib import Path

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.digits import read_digits
from hf_mlops.data.given import Given
from hf_mlops.data.grouping import ALLOWED as GROUPINGS
from hf_mlops.data.grouping import Grouping
from hf_mlops.data.image_folder import FOLDER, read_folder
from hf_mlops.data.numpy_file import read_npz
from hf_mlops.data.published import DATA_DIR_VARIABLE, PUBLISHED, read_published

READERS = {"folder:": read_folder, "npz:": read_npz}
ALLOWED = f"digits, {', '.join(PUBLISHED)}, {', '.join(f'{prefix}PATH' for prefix in READERS)}"


def load_dataset(name: str, data_dir: str | Path | None = None, groups: str | Path = "") -> Dataset:
    """The data set that `read_dataset` gives, in tensors."""
    from hf_mlops.data.tensors import as_tensors

    return as_tensors(read_dataset(name, data_dir, groups))


def read_dataset(name: str, data_dir: str | Path | None = None, groups: str | Path = "") -> Dataset:
    """The data set of that name, in arrays of NumPy; every class is in each of its splits, every training image in a group.

    `digits` comes with scikit-learn. `mnist`, `fashion-mnist` and `cifar10` keep their official test images; validation is
    5,000 of the training images, stratified. `folder:PATH` and `npz:PATH` are the user's own, see `read_folder` and `read_npz`.

    | groups | what is a group |
    |---|---|
    | nothing | what the user's own data call one, else a class |
    | `class` | a class, in any case |
    | `PATH.csv`, `PATH.parquet` | what a file says, see `read_group_file` |
    | `folder` | of `folder:PATH`, a folder inside those of classes |
    | `shard:K`, `dirichlet:K:ALPHA`, `class-shard:K` | one of K customers, or of K pieces of a class, see `partitions.py` |
    | `poison:KIND:SHARE` | `clean`, and `poison` that is laid into the training images, see `Poison` |
    | `class+poison:KIND:SHARE` | one of those before the `+`, without what is in the group `poison` |

    Args:
        data_dir: folder with the files of the published sets as torchvision lays them out; only read, never downloaded to.
            Left out or empty: the one that the environment variable HF_MLOPS_DATA_DIR names; without it, torchvision
            downloads to `~/.cache/hf_mlops`. Nothing else is done by torchvision but to read `cifar10`, and nothing by torch.
        groups: how the training images are grouped; the same text gives the same groups on every machine.

    Raises:
        BadRequest: an unknown name; files that are missing, broken or not those that were published; a failed download;
            data of the user's own that cannot be used; groups of another form, more of them than `LIMIT`, or that do not fit.
    """
    grouping = Grouping.parse(str(groups))
    if grouping.base == FOLDER and not name.startswith("folder:"):
        raise BadRequest(f"groups={grouping.text} is of folder:PATH alone, not of {name!r}; allowed: {GROUPINGS}")
    return grouping.group(_read(name, data_dir, grouping.base))


def _read(name: str, data_dir: str | Path | None, base: str) -> Given:
    for prefix, read in READERS.items():
        if name.startswith(prefix) and name != prefix:
            return read(name.removeprefix(prefix), base)
    if name == "digits":
        return read_digits()
    if name in PUBLISHED:
        return read_published(name, data_dir or os.environ.get(DATA_DIR_VARIABLE))
    raise BadRequest(f"unknown data set {name!r}; allowed: {ALLOWED}")
