"""A folder of images, by class or without labels, read with Pillow (the extra ``maxaffine[data]``)."""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._files import checksum
from .._progress import progress_bar
from ..errors import BadInput, DataError
from .dataset import UNLABELED, DataSet, Split, printable, read_names, renumbering, split_by_class

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_GRAY = ("1", "L", "LA")
_GRAY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_COLOR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_PARTS = ({"train", "test"}, {"train", "val"})


def load_images(folder: Path, size: int | tuple[int, int] | None, test_fraction: float, seed: int) -> DataSet:
    """Read all the images of a folder; where it has no parts, a test part is drawn from them."""
    name, train = printable(folder.name), image_files(folder, size)
    if len(_parts(folder)) == 1:
        return split_by_class(name, train.take(slice(None)), train.class_names, test_fraction, seed)
    test = image_files(folder, size, "test")
    if train.class_names != test.class_names:
        raise DataError(f"{folder}: its parts hold other classes than each other; name them alike")
    # One color image makes all of them RGB, in both parts alike.
    channels = max(train.channels, test.channels)
    inputs, unseen = (replace(files, channels=channels).take(slice(None)) for files in (train, test))
    return DataSet(name, inputs, unseen, train.class_names)


@dataclass(frozen=True)
class ImageFiles(Dataset[tuple[Tensor, int]]):
    """The images of a folder, read when they are asked for: a folder of any size takes little memory."""

    paths: tuple[Path, ...]  # N image files
    labels: tuple[int, ...]  # their class numbers
    class_names: tuple[str, ...]  # C names
    channels: int  # 1 for gray, 3 for RGB
    size: tuple[int, int] | None  # (height, width) to which each is resized, or None

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """Read one image and return it with its label."""
        return torch.tensor(_pixels(self.paths[row], self.channels, self.size)), self.labels[row]

    def ordered(self, class_names: str | os.PathLike[str] | Sequence[str]) -> ImageFiles:
        """The same images with their classes numbered in another order, as `DataSet.ordered` does."""
        names = read_names(class_names)
        places = renumbering(printable(self.paths[0].parent.parent.name), self.class_names, names).tolist()
        return replace(self, labels=tuple(places[label] for label in self.labels), class_names=names)

    def take(self, rows: slice) -> Split:
        """Read some of the images: inputs (n, C, H, W) with their labels."""
        paths, inputs = self.paths[rows], np.empty(0, np.float32)
        progress = None if len(paths) == len(self) else False
        bar = progress_bar(progress, "reading images", iterable=paths, unit="image", leave=False)
        for row, path in enumerate(bar):
            pixels = _pixels(path, self.channels, self.size)
            if row == 0:
                inputs = np.empty((len(paths), *pixels.shape), np.float32)
            if pixels.shape != inputs.shape[1:]:
                sizes = f"{pixels.shape[1:]} pixels, not {inputs.shape[2:]} like {paths[0]}"
                raise DataError(f"{path}: has {sizes}; resize the images, or pass size=(height, width)")
            inputs[row] = pixels
        return Split(torch.from_numpy(inputs), torch.tensor(self.labels[rows]))

    def marks(self, rows: slice) -> np.ndarray:
        """One number per image by which a changed one is noticed, without reading it, (n,) uint32."""
        # A CRC-32 of the label, the names of class and file, the file's size, and how it is read.
        try:
            words = [
                f"{label}/{path.parent.name}/{path.name}/{path.stat().st_size}/{self.channels}/{self.size}"
                for path, label in zip(self.paths[rows], self.labels[rows], strict=True)
            ]
        except OSError as error:
            raise DataError(f"{error}; list the images again") from error
        return np.array([checksum(word.encode(errors="surrogateescape")) for word in words], dtype=np.uint32)


def image_files(folder: Path, size: int | tuple[int, int] | None, part: str = "train") -> ImageFiles:
    """List the images of one part of a folder, or of a folder without parts, in the order of `load`."""
    target = _target(size)
    names, files = _classes(_parts(folder).get(part, folder))
    paths, labels = zip(*files, strict=True)
    channels, pages = zip(*map(_glance, paths), strict=True)
    if several := [path.name for path, count in zip(paths, pages, strict=True) if count > 1]:
        count = "one image holds" if len(several) == 1 else f"{len(several)} images hold"
        warnings.warn(f"{folder}: {count} several pages or frames, e.g. {several[0]}; the first is taken", stacklevel=4)
    return ImageFiles(paths, labels, names, max(channels), target)


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise BadInput(f"size: {size!r} is neither a positive whole number nor two of them, (height, width); e.g. 64")
    return sides[0], sides[1]


def _natural(path: Path) -> tuple[list[str | int], str]:
    # Runs of digits compare as numbers: 10 comes after 9. The name itself decides where only case differs.
    pieces = re.split(r"(\d+)", path.name.casefold())
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], path.name


def _entries(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)


def _parts(folder: Path) -> dict[str, Path]:
    """The folders of the parts ``train`` and ``test``; a folder without such parts is the only part itself."""
    entries = _entries(folder)
    if {path.name for path in entries} not in _PARTS:
        return {"train": folder}
    return {"train" if path.name == "train" else "test": path for path in entries}


def _classes(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The names of the classes, and every image with its label; a folder of images alone has no labels."""
    entries = _entries(folder)
    if entries and all(path.is_file() for path in entries):
        return UNLABELED, [(path, 0) for path in entries]
    strays = [path.name for path in entries if not path.is_dir()]
    if strays or not entries:
        problem = f"has files beside its class folders, e.g. {strays[0]}" if strays else "is empty"
        raise DataError(
            f"{folder}: {problem}; give one folder per class with the images of that class, nothing else; "
            "or images alone, which have no labels then"
        )
    files = [(path, label) for label, entry in enumerate(entries) for path in _images(entry)]
    return tuple(printable(path.name) for path in entries), files


def _images(folder: Path) -> list[Path]:
    images = _entries(folder)
    if not images:
        raise DataError(f"{folder}: is empty; put images into it or remove it")
    # Opening a pipe would wait for whoever writes into it, and a device may never end.
    if odd := [path for path in images if path.exists() and not (path.is_file() or path.is_dir())]:
        raise DataError(f"{odd[0]}: is a pipe, a socket or a device, not an image; move it away")
    if subfolders := [path for path in images if path.is_dir()]:
        raise DataError(
            f"{subfolders[0]}: is a folder inside a class folder, which holds images only (train and test are "
            "recognized as parts when nothing else is beside them)"
        )
    return images


def _glance(path: Path) -> tuple[int, int]:
    """The channels of a picture, and its pages or frames."""
    with open_picture(path, str(path)) as picture:
        # Cameras write a preview as a second picture of an MPO file.
        pages = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        return 3 if picture.mode in _COLOR else 1, pages


def _pixels(path: Path, channels: int, target: tuple[int, int] | None) -> np.ndarray:
    with open_picture(path, str(path)) as picture:
        return pixels_of(picture, channels, target)


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
