"""Images as numbers, read with Pillow (the extra ``maxaffine[data]``)."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput, DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_GRAY = ("1", "L", "LA")
_GRAY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_COLOR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class ImageReader:
    """How the images of a folder are read: all gray, or all RGB."""

    channels: int  # 1 for gray, 3 for RGB
    size: tuple[int, int] | None  # (height, width) to which each is resized, or None
    rate: None = None  # images have none

    @classmethod
    def of(cls, paths: Sequence[Path], folder: Path, size: int | tuple[int, int] | None) -> ImageReader:
        """Look at all images of a folder, without reading their pixels."""
        target = _target(size)
        channels, pages = zip(*map(_glance, paths), strict=True)
        if several := [path.name for path, count in zip(paths, pages, strict=True) if count > 1]:
            count = "one image holds" if len(several) == 1 else f"{len(several)} images hold"
            words = f"{folder}: {count} several pages or frames, e.g. {several[0]}; the first is taken"
            warnings.warn(words, stacklevel=6)
        return cls(max(channels), target)

    @property
    def mark(self) -> str:
        """What tells numbers that were read in another way."""
        return f"{self.channels}/{self.size}"

    def read(self, path: Path) -> np.ndarray:
        """One image as numbers (C, H, W)."""
        with open_picture(path, str(path)) as picture:
            return pixels_of(picture, self.channels, self.size)

    def unlike(self, shape: tuple[int, ...], first: tuple[int, ...], path: Path) -> str:
        """Why an image of another shape than the first one cannot stand beside it."""
        return f"has {shape[1:]} pixels, not {first[1:]} like {path}; resize the images, or pass size=(height, width)"


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise BadInput(f"size: {size!r} is neither a positive whole number nor two of them, (height, width); e.g. 64")
    return sides[0], sides[1]


def _glance(path: Path) -> tuple[int, int]:
    """The channels of a picture, and its pages or frames."""
    with open_picture(path, str(path)) as picture:
        # Cameras write a preview as a second picture of an MPO file.
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        return 3 if picture.mode in _COLOR else 1, pages


@contextmanager
def open_picture(source: Path | BytesIO, name: str, formats: tuple[str, ...] | None = None) -> Iterator[Picture]:
    """Open a picture, of some formats only; errors inside the block that come from bad bytes name it."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise DataError("images: Pillow reads them and is absent; pip install 'maxaffine[data]'") from error
    kinds = "an image" if formats is None else f"one of {', '.join(formats)} and .npy"
    try:
        with Image.open(source, formats=formats) as picture:
            if picture.mode not in _GRAY + _GRAY_16 + _COLOR:
                raise DataError(
                    f"{name}: its pixels are of type {picture.mode}, whose range is unknown; store 8-bit or 16-bit ones"
                )
            yield picture
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: unreadable as {kinds}; remove or replace it") from error
    # What Pillow's decoders raise on bad bytes is not one family; a bomb is a picture of too many pixels.
    except (
        *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error),
        *(Image.DecompressionBombError, Image.DecompressionBombWarning),
    ) as error:
        raise DataError(f"{name}: unreadable as {kinds} ({error}); remove or replace it") from error


def pixels_of(picture: Picture, channels: int, target: tuple[int, int] | None) -> np.ndarray:
    """A picture as numbers (C, H, W), float32 in [0, 1], resized where a (height, width) is given."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(picture)
    highest = 65535 if image.mode in _GRAY_16 else 255
    if highest == 65535:
        image = Image.fromarray(np.asarray(image, dtype=np.float32))
    else:
        # A palette's transparency is dropped in two steps: Pillow warns about the direct one.
        image = (image.convert("RGBA") if image.mode == "P" else image).convert("L" if channels == 1 else "RGB")
    if target is not None:
        image = image.resize((target[1], target[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) / highest
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    # Resampling in floating point may leave [0, 1] by a rounding error.
    return np.broadcast_to(pixels.clip(0, 1), (channels, *pixels.shape[1:]))
