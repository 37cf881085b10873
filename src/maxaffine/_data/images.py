"""A folder of images, by class or without labels, read with Pillow (the extra ``maxaffine[data]``)."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from ..errors import BadInput, DataError
from .dataset import UNLABELED, DataSet, Split, printable, split_by_class
from .names import read_names, renumbering

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_GRAY = ("1", "L", "LA")
_GRAY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_COLOR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_PARTS = ({"train", "test"}, {"train", "val"})


def load_images(folder: Path, size: int | tuple[int, int] | None, test_fraction: float, seed: int) -> DataSet:
    """Read ``folder/<class>/<image>``, or ``folder/train/<class>/<image>`` beside ``folder/test`` (or ``val``).

    Images without class folders have no labels.

    Classes and files are in natural order ("a2" before "a10"). Images are gray (C = 1) when every file is gray, else
    RGB (C = 3) without transparency; 16-bit gray keeps its precision. Hidden files are skipped, every other file must
    be an image.

    Args:
        folder: The folder.
        size: None when all images have one size already; else (height, width), or one number for both, to which each
            is resized (bilinear, the aspect is not kept).
        test_fraction: As in `split_by_class`; used when there is no test folder.
        seed: As in `split_by_class`.

    Returns:
        The data set.

    Raises:
        DataError: There are no images, the parts have other classes, Pillow is absent, or an image is unreadable or
            has another size.
    """
    target = _target(size)
    parts = _entries(folder)
    if {path.name for path in parts} not in _PARTS:
        names, files = _listed(folder)
        (whole,) = _read([files], target)
        return split_by_class(printable(folder.name), whole, names, test_fraction, seed)
    train_folder, test_folder = sorted(parts, key=lambda path: path.name != "train")
    (names, train_files), (test_names, test_files) = _listed(train_folder), _listed(test_folder)
    if names != test_names:
        raise DataError(f"{folder}: {train_folder.name} and {test_folder.name} hold other classes; name them alike")
    train, test = _read([train_files, test_files], target)
    return DataSet(printable(folder.name), train, test, names)


@dataclass(frozen=True)
class ImageFiles:
    """The images of a folder, read when they are asked for: a folder of any size takes little memory.

    Args:
        paths: N image files.
        labels: Their class numbers.
        class_names: C names.
        channels: 1 for gray, 3 for RGB.
        size: (height, width) to which each is resized, or None.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.paths)

    def ordered(self, class_names: str | os.PathLike[str] | Sequence[str]) -> ImageFiles:
        """The same images with their classes numbered in another order, as `DataSet.ordered` does.

        Args:
            class_names: As there.

        Returns:
            The images.
        """
        names = read_names(class_names)
        places = renumbering(printable(self.paths[0].parent.parent.name), self.class_names, names).tolist()
        return replace(self, labels=tuple(places[label] for label in self.labels), class_names=names)

    def take(self, rows: slice) -> Split:
        """Read some of the images.

        Args:
            rows: Which, n of them.

        Returns:
            The split: inputs (n, C, H, W).

        Raises:
            DataError: If one is unreadable, or they have several sizes.
        """
        paths = self.paths[rows]
        pixels = [_pixels(path, self.channels, self.size) for path in paths]
        for path, image in zip(paths, pixels, strict=True):
            _check_size(path, image, paths[0], pixels[0])
        return Split(torch.from_numpy(np.stack(pixels)), torch.tensor(self.labels[rows]))

    def marks(self, rows: slice) -> np.ndarray:
        """One number per image by which a changed one is noticed, without reading it.

        Args:
            rows: Which, n of them.

        Returns:
            (n,) uint32, a CRC-32 of the label, the names of class and file, the file's size, and how it is read.

        Raises:
            DataError: If one is gone.
        """
        try:
            words = [
                f"{label}/{path.parent.name}/{path.name}/{path.stat().st_size}/{self.channels}/{self.size}"
                for path, label in zip(self.paths[rows], self.labels[rows], strict=True)
            ]
        except OSError as error:
            raise DataError(f"{error}; list the images again") from error
        return np.array([zlib.crc32(word.encode(errors="surrogateescape")) for word in words], dtype=np.uint32)


def image_files(folder: Path, size: int | tuple[int, int] | None, part: str = "train") -> ImageFiles:
    """List the images of a folder by class, or of one part of it, in the order in which `load` reads them.

    Args:
        folder: ``folder/<class>/<image>`` or ``folder/<image>``, all of which is listed, or the same inside
            ``folder/train`` beside ``folder/test`` (or ``val``).
        size: As for `load`.
        part: ``train`` or ``test``, of a folder that has these.

    Returns:
        The files.

    Raises:
        DataError: If there are no images, or something else is among them.
    """
    if {path.name for path in _entries(folder)} in _PARTS:
        folder = next(path for path in _entries(folder) if (path.name == "train") == (part == "train"))
    names, files = _listed(folder)
    paths, labels = zip(*files, strict=True)
    return ImageFiles(paths, labels, names, max(map(_channels, paths)), _target(size))


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise BadInput(f"size: {size!r} is neither a positive whole number nor two of them, (height, width)")
    return sides[0], sides[1]


def _natural(path: Path) -> tuple[list[str | int], str]:
    pieces = re.split(r"(\d+)", path.name.casefold())
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], path.name


def _entries(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)


def _listed(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The names of the classes, and every image with its label; a folder of images alone has no labels."""
    images = _entries(folder)
    if images and all(path.is_file() for path in images):
        return UNLABELED, [(path, 0) for path in images]
    classes = _classes(folder)
    return tuple(printable(path.name) for path in classes), _files(classes)


def _classes(folder: Path) -> list[Path]:
    entries = _entries(folder)
    strays = [path.name for path in entries if not path.is_dir()]
    if strays or not entries:
        problem = f"has files beside its class folders, e.g. {strays[0]}" if strays else "is empty"
        raise DataError(
            f"{folder}: {problem}; give one folder per class with the images of that class, nothing else; "
            "or images alone, which have no labels then"
        )
    return entries


def _files(classes: Sequence[Path]) -> list[tuple[Path, int]]:
    files = []
    for label, folder in enumerate(classes):
        images = _entries(folder)
        if not images:
            raise DataError(f"{folder}: is empty; put images into it or remove it")
        if subfolders := [path for path in images if path.is_dir()]:
            raise DataError(
                f"{subfolders[0]}: is a folder inside a class folder, which holds images only (train and test are "
                "recognized as parts when nothing else is beside them)"
            )
        files += [(path, label) for path in images]
    return files


def _read(parts: list[list[tuple[Path, int]]], target: tuple[int, int] | None) -> list[Split]:
    everything = [path for part in parts for path, _ in part]
    channels = max(_channels(path) for path in everything)
    first = _pixels(everything[0], channels, target)
    splits = []
    with tqdm(total=len(everything), desc="reading images", unit="image", disable=None, leave=False) as bar:
        for part in parts:
            inputs = np.empty((len(part), *first.shape), dtype=np.float32)
            for row, (path, _) in enumerate(part):
                pixels = _pixels(path, channels, target)
                _check_size(path, pixels, everything[0], first)
                inputs[row] = pixels
                bar.update()
            splits.append(Split(torch.from_numpy(inputs), torch.tensor([label for _, label in part])))
    return splits


def _check_size(path: Path, image: np.ndarray, first_path: Path, first: np.ndarray) -> None:
    if image.shape != first.shape:
        sizes = f"{image.shape[1:]} pixels, not {first.shape[1:]} like {first_path}"
        raise DataError(f"{path}: has {sizes}; resize the images, or pass size=(height, width)")


@contextmanager
def _opened(path: Path) -> Iterator[Picture]:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise DataError("reading images needs Pillow, which is absent; pip install 'maxaffine[data]'") from error
    try:
        with Image.open(path) as image:
            yield image
    # What Pillow's decoders raise on bad bytes is not one family.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: unreadable as an image ({error}); remove or replace it") from error


def _channels(path: Path) -> int:
    with _opened(path) as image:
        return 3 if checked_mode(image, str(path)) in _COLOR else 1


def checked_mode(image: Picture, name: str) -> str:
    """The kind of an image's pixels.

    Args:
        image: The image.
        name: What to call it in an error.

    Returns:
        Pillow's name of it.

    Raises:
        DataError: If their range is unknown.
    """
    if image.mode not in _GRAY + _GRAY_16 + _COLOR:
        raise DataError(
            f"{name}: its pixels are of type {image.mode}, whose range is unknown; store 8-bit or 16-bit pixels"
        )
    return image.mode


def _pixels(path: Path, channels: int, target: tuple[int, int] | None) -> np.ndarray:
    with _opened(path) as opened:
        return pixels_of(opened, channels, target)


def pixels_of(opened: Picture, channels: int, target: tuple[int, int] | None) -> np.ndarray:
    """An image as numbers.

    Args:
        opened: The image.
        channels: 1 for gray, 3 for RGB.
        target: (height, width) to which it is resized, or None.

    Returns:
        (C, H, W) float32 in [0, 1].
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(opened)
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
