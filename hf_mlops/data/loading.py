"""Data sets by name: scikit-learn's digits, published ones through torchvision, the user's own from a folder or file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.given import Given
from hf_mlops.data.grouping import ALLOWED as GROUPINGS
from hf_mlops.data.grouping import Grouping
from hf_mlops.data.image_folder import FOLDER, read_folder
from hf_mlops.data.numpy_file import read_npz

CACHE = "~/.cache/hf_mlops"  # where torchvision downloads to
DATA_DIR_VARIABLE = "HF_MLOPS_DATA_DIR"
VALIDATION = 5000  # images of the published training sets

READERS = {"folder:": read_folder, "npz:": read_npz}
IDX_FILES = {  # MD5 as unpacked: torchvision knows only that of the packed files
    "mnist": {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
PUBLISHED = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}  # name: class in torchvision.datasets
ALLOWED = f"digits, {', '.join(PUBLISHED)}, {', '.join(f'{prefix}PATH' for prefix in READERS)}"


def load_dataset(name: str, data_dir: str | Path | None = None, groups: str | Path = "") -> Dataset:
    """The data set of that name; every class is in each of its splits, and every training image in a group.

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
            downloads to `~/.cache/hf_mlops`.
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
        return _digits()
    if name in PUBLISHED:
        return _published(name, data_dir or os.environ.get(DATA_DIR_VARIABLE))
    raise BadRequest(f"unknown data set {name!r}; allowed: {ALLOWED}")


def _digits() -> Given:
    """scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, embedded in its package (UCI ML repository)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8)
    labels = torch.from_numpy(raw.target).long()
    train, rest = train_test_split(range(len(labels)), train_size=0.6, random_state=0, stratify=labels)
    validation, test = train_test_split(rest, train_size=0.5, random_state=0, stratify=labels[rest])
    splits = _ascending(train), _ascending(validation), _ascending(test)
    return Given("digits", tuple(map(str, range(10))), labels, splits, len(labels), lambda: images)


def _published(name: str, data_dir: str | Path | None) -> Given:
    """A data set whose files torchvision knows; read only if they are, byte for byte, those that were published."""
    from sklearn.model_selection import train_test_split

    root = Path(data_dir or CACHE).expanduser()
    files = _files(name)
    faults, failure = _faults(root, files), ""
    if faults and not data_dir:
        failure = _download(name, root, faults)
        faults = _faults(root, files)
    if faults:
        told = ", ".join(f"{file} ({faults.get(file, 'good')})" for file in files)
        raise BadRequest(
            f"{name} needs these files in {root}: {told}.{failure} Put them there, unpacked, or name a folder that has them"
            f" by --data-dir or {DATA_DIR_VARIABLE}; where there is a network, name none, and they are downloaded"
        )
    read = _read_cifar10 if name == "cifar10" else _read_idx
    (train_images, train_labels), (test_images, test_labels), names = read(name, root)
    listed = len(train_labels)
    train, validation = train_test_split(np.arange(listed), test_size=VALIDATION, random_state=0, stratify=train_labels)
    splits = _ascending(train), _ascending(validation), torch.arange(listed, listed + len(test_labels))
    labels = torch.cat([train_labels, test_labels])
    return Given(name, names, labels, splits, listed, lambda: torch.cat([train_images, test_images]))


def _ascending(rows: Sequence[int]) -> Tensor:
    return torch.tensor(sorted(rows))


def _files(name: str) -> dict[str, str]:
    """The files of a published data set, from the data folder on, with their MD5."""
    if name in IDX_FILES:
        return IDX_FILES[name]
    from torchvision.datasets import CIFAR10

    listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    return {f"{CIFAR10.base_folder}/{file}": digest for file, digest in listed}


def _faults(root: Path, files: dict[str, str]) -> dict[str, str]:
    """The files that cannot be used, and why."""
    faults = {}
    for file, digest in files.items():
        try:
            found = md5((root / file).read_bytes(), usedforsecurity=False).hexdigest()
        except FileNotFoundError:
            faults[file] = "missing"
        except OSError as error:
            faults[file] = f"not readable: {error.strerror}"
        else:
            if found != digest:
                faults[file] = f"truncated or altered: its MD5 is {found}, not {digest}"
    return faults


def _download(name: str, root: Path, faults: dict[str, str]) -> str:
    """Lets torchvision download to the cache; gives what failed, as a sentence, or nothing."""
    import torchvision.datasets

    try:
        for file in faults:  # torchvision takes any unpacked file for a good one
            (root / file).unlink(missing_ok=True)
        getattr(torchvision.datasets, PUBLISHED[name])(root, download=True)
    except Exception as error:  # of the network, the disk or an archive
        return f" Downloading them failed: {' '.join(str(error).split()) or type(error).__name__}."
    return ""


Part = tuple[Tensor, Tensor]  # images (N, channels, height, width) uint8, labels (N,) int64


def _read_idx(name: str, root: Path) -> tuple[Part, Part, tuple[str, ...]]:
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.mnist import read_image_file, read_label_file

    train_images, train_labels, test_images, test_labels = (str(root / file) for file in _files(name))
    train = read_image_file(train_images).unsqueeze(1), read_label_file(train_labels)
    test = read_image_file(test_images).unsqueeze(1), read_label_file(test_labels)
    return train, test, tuple(FashionMNIST.classes if name == "fashion-mnist" else map(str, range(10)))


def _read_cifar10(name: str, root: Path) -> tuple[Part, Part, tuple[str, ...]]:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():  # of pickles as old as these, from NumPy 2.4.0 to 2.4.4
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    train_part, test_part = (
        (torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets)) for part in (train, test)
    )
    return train_part, test_part, tuple(train.classes)
