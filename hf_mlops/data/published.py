"""Published data sets: read only from files that are, byte for byte, those that were published."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Given, Part
from hf_mlops.data.splitting import stratified

CACHE = "~/.cache/hf_mlops"  # where torchvision downloads to
DATA_DIR_VARIABLE = "HF_MLOPS_DATA_DIR"
VALIDATION = 5000  # images of the published training sets

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
CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
PUBLISHED = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}  # name: class in torchvision.datasets


def read_published(name: str, data_dir: str | Path | None) -> Given:
    """A data set of `PUBLISHED`; 5,000 of its training images, stratified, are for validation.

    Args:
        data_dir: folder with the files as torchvision lays them out; nothing: the cache, which torchvision downloads to.

    Raises:
        BadRequest: files that are missing, broken or not those that were published; a failed download; CIFAR-10 without
            torchvision.
    """
    root = Path(data_dir or CACHE).expanduser()
    files = IDX_FILES[name] if name in IDX_FILES else _torchvision(name).cifar10_files()
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
    train, test, names = _read_idx(name, root) if name in IDX_FILES else _torchvision(name).read_cifar10(root)
    (train_images, train_labels), (test_images, test_labels) = train, test
    listed = len(train_labels)
    own, validation = stratified(train_labels, listed - VALIDATION)
    splits = np.sort(own), np.sort(validation), np.arange(listed, listed + len(test_labels))
    labels = np.concatenate([train_labels, test_labels])
    return Given(name, names, labels, splits, listed, lambda: np.concatenate([train_images, test_images]))


def _torchvision(name: str) -> ModuleType:
    """What needs torchvision, which is imported here and not before."""
    try:
        from hf_mlops.data import torchvision_files
    except ImportError as error:
        allowed = ", ".join(IDX_FILES)
        raise BadRequest(
            f"{name} is read by torchvision, which cannot be imported ({error}); without it, allowed: {allowed}"
        ) from error
    return torchvision_files


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
    try:
        from hf_mlops.data.torchvision_files import download

        for file in faults:  # torchvision takes any unpacked file for a good one
            (root / file).unlink(missing_ok=True)
        download(PUBLISHED[name], root)
    except Exception as error:  # of the network, the disk or an archive; or torchvision is not installed
        return f" Downloading them failed: {' '.join(str(error).split()) or type(error).__name__}."
    return ""


def _read_idx(name: str, root: Path) -> tuple[Part, Part, tuple[str, ...]]:
    arrays = [_idx(root / file) for file in IDX_FILES[name]]
    train, test = ((images[:, None], labels.astype(np.int64)) for images, labels in (arrays[:2], arrays[2:]))
    return train, test, CLASS_NAMES[name]


def _idx(file: Path) -> UInt8[np.ndarray, "*shape"]:
    """The bytes of a file in the format of MNIST: 0, 0, 8 for bytes, the number of axes, each one's length, the values."""
    content = file.read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
