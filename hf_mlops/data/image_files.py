"""Image files as arrays, the right way up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # in upper or lower case

DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # PIL's modes of 16-bit images
GRAY = ("1", "L", *DEEP_GRAY)
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF's orientations in which rows are columns


def read_images(name: str, files: Sequence[str]) -> Float32[np.ndarray, "images channels height width"]:
    """Images with values 0 to 1, turned as their EXIF orientation says; all sizes are compared before any is decoded.

    If all are gray (PIL modes 1, L, I;16, I) they have one channel, else three; transparency is dropped.

    Args:
        name: what errors call the data set.

    Raises:
        BadRequest: a broken image; several sizes; pixels of no known range.
    """
    sizes, modes = [], set()
    for file in files:
        with _opened(file) as image:
            sizes.append(_upright_size(image))
            modes.add(image.mode)
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            (width, height), (first_width, first_height) = size, sizes[0]
            raise BadRequest(
                f"{name}: all images must be of one size, but {files[0]} has {first_width}×{first_height} pixels"
                f" and {file} has {width}×{height}"
            )
    images = np.empty((len(files), 1 if modes <= set(GRAY) else 3, sizes[0][1], sizes[0][0]), np.float32)
    with Progress("reading images", len(files), "image", delay=2) as progress:
        for pixels, file in zip(images, files, strict=True):
            with _opened(file) as image:
                pixels[:] = _pixels(_upright(image), "L" if len(pixels) == 1 else "RGB")
            progress.advance()
    return images


@contextmanager
def _opened(file: str) -> Iterator[Image]:
    """An image file; whatever goes wrong with it is told of as a BadRequest that names it."""
    import PIL.Image

    try:
        # by its name, PIL would map a TIFF file into memory, and mistake rows for columns where it is turned
        with open(file, "rb") as content, PIL.Image.open(content) as image:
            yield image
    except PIL.UnidentifiedImageError as error:  # its text describes `content`
        raise BadRequest(f"{file} is not an image that can be read: cannot identify its format") from error
    except Exception as error:  # a broken file makes PIL raise any of a dozen kinds
        raise BadRequest(f"{file} is not an image that can be read: {error}") from error


def _orientation(image: Image) -> int:
    """EXIF's, 1 to 8, from what stands before the pixels; 1, upright, where there is none or it cannot be read."""
    from PIL.ExifTags import Base
    from PIL.Image import Image as AnyImage

    if image.format == "TIFF":  # which PIL turns itself
        return 1
    try:
        return AnyImage.getexif(image).get(Base.Orientation, 1)  # that of PNG files would decode the pixels
    except Exception:  # EXIF that is broken is common beside pixels that are not
        return 1


def _upright_size(image: Image) -> tuple[int, int]:
    """(width, height) of what `_upright` gives; nothing is decoded."""
    width, height = image.size
    return (height, width) if _orientation(image) in QUARTER_TURNS else (width, height)


def _upright(image: Image) -> Image:
    from PIL.ImageOps import exif_transpose

    return image if _orientation(image) == 1 else exif_transpose(image)


def _pixels(image: Image, mode: str) -> Float32[np.ndarray, "channels height width"]:
    """1 or 3 channels, 0 to 1; deep gray always has one channel, since PIL would clip it to 8 bits."""
    if image.mode == "F":
        raise BadRequest("its pixels are floating-point numbers of no known range")
    if image.mode in DEEP_GRAY:
        deep = np.asarray(image).astype(np.float32) / 65535
        if deep.min() < 0 or deep.max() > 1:
            raise BadRequest("it has values outside 0 to 65535")
        return deep[None]
    if "transparency" in image.info:
        image = image.convert("RGBA")  # of a palette, where PIL warns of going straight to RGB
    shallow = np.asarray(image.convert(mode), np.float32) / 255
    return np.atleast_3d(shallow).transpose(2, 0, 1)
