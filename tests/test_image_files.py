"""Image files are read the right way up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.ExifTags import Base
from torchvision.datasets.folder import IMG_EXTENSIONS

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.image_files import ENDINGS, read_images

UPRIGHT = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
STORED = {  # by EXIF's orientation: how the pixels lie in the file
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT[:, ::-1].T,
    7: UPRIGHT[::-1, ::-1].T,
    8: UPRIGHT[::-1].T,
}


def write(stored: np.ndarray[Any, Any], orientation: int, file: Path, **options: Any) -> str:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif, **options)
    return str(file)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("ending", "kind", "options"),
    [
        ("png", np.uint8, {}),
        ("png", np.uint16, {}),
        ("tiff", np.uint8, {}),
        ("tiff", np.uint8, {"compression": "tiff_lzw"}),
        ("webp", np.uint8, {"lossless": True}),
    ],
)
def test_images_are_turned_as_their_exif_says(
    tmp_path: Path, orientation: int, ending: str, kind: type[np.integer[Any]], options: dict[str, Any]
) -> None:
    stored = STORED[orientation].astype(kind) * (np.iinfo(kind).max // 255)
    files = [write(UPRIGHT, 1, tmp_path / "first.png"), write(stored, orientation, tmp_path / f"second.{ending}", **options)]
    for image in read_images("mine", files):
        np.testing.assert_allclose(image[0] * 255, UPRIGHT, atol=1e-3)


@pytest.mark.parametrize("ending", ["jpg", "JFIF"])
def test_photographs_of_a_camera_that_was_turned_are_upright(tmp_path: Path, ending: str) -> None:
    halves = np.zeros((16, 32, 3), np.uint8)
    halves[:, 16:] = 255  # dark on the left, bright on the right
    stored = {1: halves, 3: halves[::-1, ::-1], 6: halves[:, ::-1].swapaxes(0, 1), 8: halves[::-1].swapaxes(0, 1)}
    files = [write(pixels, turn, tmp_path / f"{turn}.{ending}", format="JPEG") for turn, pixels in stored.items()]
    images = read_images("mine", files)
    assert images.shape == (4, 3, 16, 32)
    assert images[..., :16].max() < 0.1 and images[..., 16:].min() > 0.9


def test_an_image_whose_exif_is_broken_is_as_its_pixels_lie(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "000.png", exif=b"Exif\0\0broken")
    (image,) = read_images("mine", [str(tmp_path / "000.png")])
    np.testing.assert_allclose(image[0] * 255, UPRIGHT, atol=1e-3)


def test_sizes_are_compared_as_they_are_when_turned_and_before_any_image_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[ImageFile.ImageFile] = []
    first, second = tmp_path / "first.png", write(UPRIGHT, 6, tmp_path / "second.jpg")
    Image.fromarray(UPRIGHT).save(first)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    with pytest.raises(BadRequest, match=f"mine: all images .* but {first} has 5×4 pixels and {second} has 4×5"):
        read_images("mine", [str(first), second])
    assert decoded == []


def test_all_endings_of_torchvisions_image_folder_are_read() -> None:
    assert set(ENDINGS) == {*IMG_EXTENSIONS, ".jfif"}
