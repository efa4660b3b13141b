"""Data sets in arrays of NumPy, read without torch, and the same in tensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import without
from PIL import Image

import hf_mlops.data
from hf_mlops import Dataset, Split, load_dataset
from hf_mlops.base.errors import BadRequest
from hf_mlops.data import published
from hf_mlops.data.loading import read_dataset
from hf_mlops.data.tensors import as_tensors

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 2
PIXELS = RANDOM.integers(0, 256, (60, 5, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of the user's own, with groups: in a NumPy file, and in folders."""
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "own.npz", images=PIXELS, labels=LABELS, groups=np.arange(60) % 3)
    np.savez(folder / "shares.npz", images=PIXELS.astype(np.float64).swapaxes(1, 3) / 255, labels=LABELS)
    for row, pixels in enumerate(PIXELS):
        place = folder / "photos" / ("cat", "dog")[row % 2] / ("ann", "bob")[row % 4 // 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{row:02}.png")
    return folder


def arrays(split: Split | None) -> dict[str, Any]:
    return vars(split) if split else {}


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        *(("digits", text) for text in ("", "shard:20", "dirichlet:10:0.3", "class-shard:10")),
        *(("digits", f"{base}poison:{kind}") for base in ("", "class+") for kind in ("patch:0.05", "blend:0.05", "flip:0.6")),
        *(("npz:{}/own.npz", text) for text in ("", "class", "class-shard:2", "poison:blend:0.2:known=0.5")),
        ("npz:{}/shares.npz", "class+poison:patch:0.1"),
        ("folder:{}/photos", "folder"),
        ("folder:{}/photos", "folder+poison:blend:0.2"),
    ],
)
def test_a_data_set_is_the_same_in_arrays_and_in_tensors(name: str, groups: str, own: Path) -> None:
    mine, theirs = (read(name.format(own), groups=groups) for read in (read_dataset, load_dataset))
    assert mine.identity == theirs.identity and mine.groups == theirs.groups and mine.input_shape == theirs.input_shape
    np.testing.assert_allclose(mine.normalisation, theirs.normalisation, atol=1e-6)
    for part in ("train", "validation", "test", "conditioning", "audited", "triggered"):
        given, wanted = arrays(getattr(mine, part)), arrays(getattr(theirs, part))
        assert given.keys() == wanted.keys()
        for kind, array in given.items():
            assert (array is None) == (wanted[kind] is None)
            if array is not None:
                assert isinstance(array, np.ndarray) and isinstance(wanted[kind], torch.Tensor)
                assert wanted[kind].dtype == torch.from_numpy(array).dtype and np.array_equal(array, wanted[kind].numpy())
    assert (mine.victims is None) == (theirs.victims is None) == (mine.triggered is None)
    if mine.victims is not None:
        assert isinstance(theirs.victims, torch.Tensor) and theirs.victims.tolist() == mine.victims.tolist()


def test_tensors_are_no_copies() -> None:
    mine = read_dataset("digits")
    theirs = as_tensors(mine)
    mine.test.images[3, 0, 2, 1], mine.train.labels[5] = 0.25, 7
    assert theirs.test.images[3, 0, 2, 1] == 0.25 and theirs.train.labels[5] == 7


def test_means_over_many_images_with_channels_last_are_not_those_that_sums_in_float32_give() -> None:
    images = np.full((300, 100, 100, 3), 0.1, np.float32).transpose(0, 3, 1, 2)
    images[::2, 2] = 0.3
    digits = read_dataset("digits")
    train = Split(images, np.zeros(300, np.int64), np.zeros(300, np.int64))
    mean, spread = Dataset("mine", train, digits.test, digits.test, ("a",), digits.groups).normalisation
    assert mean == pytest.approx([0.1, 0.1, 0.2], abs=1e-6) and spread == pytest.approx([1e-4, 1e-4, 0.1], abs=1e-6)


def test_data_are_read_and_grouped_where_there_is_no_torch(own: Path) -> None:
    wanted = [
        ("digits", "class+poison:patch:0.05"),
        ("digits", "shard:4"),
        (f"npz:{own}/own.npz", ""),
        (f"folder:{own}/photos", "folder+poison:blend:0.2"),
    ]
    code = f"""from hf_mlops.data.loading import read_dataset
for name, groups in {wanted}:
    data = read_dataset(name, groups=groups)
    print(data.digest, len(data.audited), len(data.conditioning), data.normalisation[0][0] > 0)"""
    datasets = [load_dataset(name, groups=groups) for name, groups in wanted]
    told = [f"{data.digest} {len(data.audited)} {len(data.conditioning)} True" for data in datasets]
    assert without(("torch", "torchvision"), code).splitlines() == told


def test_published_files_that_are_there_are_read_without_torchvision_and_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_datasets import write_idx

    write_idx(tmp_path, monkeypatch)
    monkeypatch.setattr(published, "VALIDATION", 20)
    data = load_dataset("fashion-mnist", tmp_path, "shard:3")
    code = f"""
from hf_mlops.data import published
published.IDX_FILES, published.VALIDATION = {published.IDX_FILES}, 20
from hf_mlops.data.loading import read_dataset
print(read_dataset("fashion-mnist", {str(tmp_path)!r}, "shard:3").digest)"""
    assert without(("torch", "torchvision", "sklearn", "scipy"), code) == data.digest


def test_what_torchvision_is_needed_for_is_told_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "hf_mlops.data.torchvision_files", raising=False)
    monkeypatch.delattr(hf_mlops.data, "torchvision_files", raising=False)
    with pytest.raises(BadRequest, match=r"^cifar10 is read by torchvision, which cannot be imported \(.+\); without it"):
        read_dataset("cifar10", tmp_path)
    monkeypatch.setattr(published, "CACHE", str(tmp_path))
    monkeypatch.delenv(published.DATA_DIR_VARIABLE, raising=False)
    with pytest.raises(BadRequest, match=r"^mnist needs these files in .* Downloading them failed: .*torchvision.*\. Put them"):
        read_dataset("mnist")
