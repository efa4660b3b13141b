"""Published data sets, on small files in their own formats; nothing here needs the real ones or a network."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from hashlib import md5
from math import prod
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

from hf_mlops import load_dataset
from hf_mlops.base.groups import Groups
from hf_mlops.data import published

TRAIN, TEST = np.arange(120) % 10, np.arange(30) % 10  # labels


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few validation images, a cache of the test's own, and no way to the network."""

    def no_network(self: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(published, "VALIDATION", 20)
    monkeypatch.setattr(published, "CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(published.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setattr(MNIST, "download", no_network)
    monkeypatch.setattr(CIFAR10, "download", no_network)


def images_of(labels: np.ndarray[Any, Any], *shape: int) -> np.ndarray[Any, Any]:
    """(N, *shape) uint8; the first pixel is the label, the others are random."""
    images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    images.reshape(len(labels), -1)[:, 0] = labels
    return images


def write_idx(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """MNIST's and Fashion-MNIST's files in small, declared as those that were published."""
    written: dict[str, dict[str, str]] = {}
    for name, files in published.IDX_FILES.items():
        written[name] = {}
        for file in files:
            labels = TRAIN if "train" in file else TEST
            array = images_of(labels, 28, 28) if "images" in file else labels.astype(np.uint8)
            content = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(content)
            written[name][file] = md5(content).hexdigest()
    monkeypatch.setattr(published, "IDX_FILES", written)
    return [root / file for files in written.values() for file in files]


def cifar_batch(labels: np.ndarray[Any, Any]) -> bytes:
    """A batch as CIFAR-10's authors wrote it, with Python 2: a pickle with that time's texts and NumPy types."""
    pixels = images_of(labels, 3072).tobytes()
    return b"".join(
        [
            b"\x80\x02}(U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01M" + struct.pack("<H", len(labels)) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
            + struct.pack("<i", len(pixels))
            + pixels
            + b"tbu.",
        ]
    )


def cifar_meta(names: list[str]) -> bytes:
    """The file of class names, in the same format."""
    texts = b"".join(b"U" + bytes([len(name)]) + name.encode() for name in names)
    return b"\x80\x02}U\x0blabel_names](" + texts + b"es."


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """CIFAR-10's files in small, declared to torchvision as those that were published."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    contents = {f"data_batch_{i + 1}": cifar_batch(part) for i, part in enumerate(np.split(TRAIN, 5))}
    contents |= {"test_batch": cifar_batch(TEST), "batches.meta": cifar_meta(names)}
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    listed = [[file, md5(content).hexdigest()] for file, content in contents.items()]
    monkeypatch.setattr(CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(CIFAR10, "test_list", listed[5:6])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": listed[6][1]})
    return [folder / file for file in contents]


Writer = Callable[[Path, pytest.MonkeyPatch], list[Path]]
EACH = pytest.mark.parametrize(
    ("name", "write", "shape", "last_class"),
    [
        ("mnist", write_idx, (1, 28, 28), "9"),
        ("fashion-mnist", write_idx, (1, 28, 28), "Ankle boot"),
        ("cifar10", write_cifar, (3, 32, 32), "truck"),
    ],
)


@EACH
def test_a_published_set_keeps_its_test_images_and_gives_part_of_the_others_to_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Writer, shape: tuple[int, ...], last_class: str
) -> None:
    write(tmp_path, monkeypatch)
    data = load_dataset(name, tmp_path)
    assert data.name == name and data.input_shape == shape
    assert (
        data.groups == Groups.of_classes(data.class_names)
        and data.class_names[-1] == last_class
        and len(data.class_names) == 10
    )
    assert data.test.labels.tolist() == TEST.tolist()
    np.testing.assert_array_equal((data.test.images.flatten(1) * 255).round().numpy(), images_of(TEST, prod(shape)))
    assert data.validation.labels.bincount().tolist() == [2] * 10 and data.train.labels.bincount().tolist() == [10] * 10
    for split in (data.train, data.validation, data.test):
        first = split.images.flatten(1)[:, 0] * 255
        assert torch.equal(first.round().long(), split.labels) and torch.equal(split.groups, split.labels)
        assert split.images.dtype == torch.float32 and split.images.min() == 0 and split.images.max() == 1
    assert len(torch.cat([data.train.images, data.validation.images]).flatten(1).unique(dim=0)) == 120
    assert load_dataset(name, str(tmp_path)).digest == data.digest


def test_classes_are_called_as_torchvision_calls_them() -> None:
    assert published.CLASS_NAMES["fashion-mnist"] == tuple(FashionMNIST.classes)


@EACH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), r"\(missing\)"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), r"\(truncated or altered: its MD5 is \w{32}, not \w{32}\)"),
        (lambda file: file.write_bytes(b"\xff" + file.read_bytes()[1:]), r"\(truncated or altered"),
        (lambda file: (file.unlink(), file.mkdir()), r"\(not readable: Is a directory\)"),
    ],
)
def test_files_other_than_those_published_are_refused_and_the_layout_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Writer,
    shape: tuple[int, ...],
    last_class: str,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    files = [file for file in write(tmp_path, monkeypatch) if ("Fashion" in str(file)) == (name == "fashion-mnist")]
    spoil(files[-1])
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(name, tmp_path)
    told = str(caught.value)
    assert told.startswith(f"{name} needs these files in {tmp_path}: ")
    assert all(str(file.relative_to(tmp_path)) in told for file in files) and told.count("(good)") == len(files) - 1
    assert "name a folder that has them by --data-dir or HF_MLOPS_DATA_DIR" in told and "Downloading" not in told


def test_the_environment_can_name_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "named", monkeypatch)
    monkeypatch.setenv(published.DATA_DIR_VARIABLE, str(tmp_path / "named"))
    assert len(load_dataset("mnist").test) == len(load_dataset("mnist", "").test) == 30
    with pytest.raises(ValueError, match=f"needs these files in {tmp_path}/other: "):
        load_dataset("mnist", tmp_path / "other")


def test_without_a_folder_torchvision_downloads_to_the_cache_what_is_not_whole_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(self: MNIST) -> None:
        assert not broken.exists()
        downloads.append(self.root)
        write_idx(Path(self.root), monkeypatch)

    write_idx(tmp_path / "published", monkeypatch)
    broken = tmp_path / "cache" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half a fi")
    monkeypatch.setattr(MNIST, "download", download)
    assert len(load_dataset("mnist").train) == 100
    assert len(load_dataset("mnist").train) == 100
    assert list(map(str, downloads)) == [str(tmp_path / "cache")]


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_a_failed_download_is_told_with_what_to_do_instead(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"Downloading them failed: <urlopen error no network>\. Put them there") as caught:
        load_dataset(name)
    assert f"{name} needs these files in {tmp_path}/cache: " in str(caught.value)


def test_an_unknown_data_set_is_refused_with_the_names_there_are() -> None:
    allowed = "allowed: digits, mnist, fashion-mnist, cifar10, folder:PATH, npz:PATH"
    for name in ("letters", "", "MNIST", "folder:", "npz:", "folder"):
        with pytest.raises(ValueError, match=f"unknown data set '{name}'; {allowed}"):
            load_dataset(name)


def test_torchvision_and_scikit_learn_are_not_needed_to_load_the_package() -> None:
    """A registered model carries the package to where neither is installed."""
    code = "import sys, hf_mlops; print([name for name in ('torchvision', 'sklearn', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
