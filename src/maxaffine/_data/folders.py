"""A folder of files, one for each input, by class or without labels, read when they are asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._files import checksum
from .._progress import progress_bar
from ..errors import DataError
from .dataset import UNLABELED, DataSet, Split, printable, read_names, renumbering, split_by_class
from .images import ImageReader
from .sounds import SoundReader, is_sound

Reader = ImageReader | SoundReader
_PARTS = ({"train", "test"}, {"train", "val"})


@dataclass(frozen=True)
class FolderFiles(Dataset[tuple[Tensor, int]]):
    """The files of a folder, read when they are asked for: a folder of any size takes little memory."""

    paths: tuple[Path, ...]  # N files
    labels: tuple[int, ...]  # their class numbers
    class_names: tuple[str, ...]  # C names
    reader: Reader  # what makes numbers of a file

    def __len__(self) -> int:
        """Return the number of files N."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """Read one file and return it with its label."""
        return torch.tensor(self.reader.read(self.paths[row])), self.labels[row]

    def ordered(self, class_names: str | os.PathLike[str] | Sequence[str]) -> FolderFiles:
        """The same files with their classes numbered in another order, as `DataSet.ordered` does."""
        names = read_names(class_names)
        places = renumbering(printable(self.paths[0].parent.parent.name), self.class_names, names).tolist()
        return replace(self, labels=tuple(places[label] for label in self.labels), class_names=names)

    def take(self, rows: slice) -> Split:
        """Read some of the files: inputs (n, C, H, W) or (n, C, T) with their labels."""
        paths, inputs = self.paths[rows], np.empty(0, np.float32)
        progress = None if len(paths) == len(self) else False
        bar = progress_bar(progress, "reading files", iterable=paths, unit="file", leave=False)
        for row, path in enumerate(bar):
            array = self.reader.read(path)
            if row == 0:
                inputs = np.empty((len(paths), *array.shape), np.float32)
            if array.shape != inputs.shape[1:]:
                raise DataError(f"{path}: {self.reader.unlike(array.shape, inputs.shape[1:], paths[0])}")
            inputs[row] = array
        return Split(torch.from_numpy(inputs), torch.tensor(self.labels[rows]))

    def marks(self, rows: slice) -> np.ndarray:
        """One number per file by which a changed one is noticed, without reading it, (n,) uint32."""
        # A CRC-32 of the label, the names of class and file, the file's size, and how it is read.
        try:
            words = [
                f"{label}/{path.parent.name}/{path.name}/{path.stat().st_size}/{self.reader.mark}"
                for path, label in zip(self.paths[rows], self.labels[rows], strict=True)
            ]
        except OSError as error:
            raise DataError(f"{error}; list the files again") from error
        return np.array([checksum(word.encode(errors="surrogateescape")) for word in words], dtype=np.uint32)


def load_folder(folder: Path, options: dict[str, Any], test_fraction: float, seed: int) -> DataSet:
    """Read all the files of a folder; where it has no parts, a test part is drawn from them."""
    name, train = printable(folder.name), folder_files(folder, options)
    if len(_parts(folder)) == 1:
        found = split_by_class(name, train.take(slice(None)), train.class_names, test_fraction, seed)
        return replace(found, rate=train.reader.rate)
    test = folder_files(folder, options, "test")
    if train.class_names != test.class_names:
        raise DataError(f"{folder}: its parts hold other classes than each other; name them alike")
    reader = _joined(train.reader, test.reader, folder)
    inputs, unseen = (replace(files, reader=reader).take(slice(None)) for files in (train, test))
    return DataSet(name, inputs, unseen, train.class_names, rate=reader.rate)


def _joined(train: Reader, test: Reader, folder: Path) -> Reader:
    """How the files of both parts are read, alike."""
    if isinstance(train, ImageReader) and isinstance(test, ImageReader):
        return replace(train, channels=max(train.channels, test.channels))  # one color image makes all of them RGB
    if isinstance(train, SoundReader) and isinstance(test, SoundReader):
        return train  # which refuses another sampling rate
    raise DataError(f"{folder}: one of its parts holds images, and one WAV files; give both the same")


def holds_sound(folder: Path) -> bool:
    """Whether the files of a folder are WAV files, by the name of the first one."""
    _, files = _classes(_parts(folder)["train"])
    return is_sound(files[0][0])


def folder_files(folder: Path, options: dict[str, Any], part: str = "train") -> FolderFiles:
    """List the files of one part of a folder, or of a folder without parts, in the order of `load`."""
    names, files = _classes(_parts(folder).get(part, folder))
    paths, labels = zip(*files, strict=True)
    if is_sound(paths[0]):
        return FolderFiles(paths, labels, names, SoundReader.of(paths[0], options["channels"] is not None))
    return FolderFiles(paths, labels, names, ImageReader.of(paths, folder, options["size"]))


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
    """The names of the classes, and every file with its label; a folder of files alone has no labels."""
    entries = _entries(folder)
    if entries and all(path.is_file() for path in entries):
        return UNLABELED, [(path, 0) for path in entries]
    strays = [path.name for path in entries if not path.is_dir()]
    if strays or not entries:
        problem = f"has files beside its class folders, e.g. {strays[0]}" if strays else "is empty"
        raise DataError(
            f"{folder}: {problem}; give one folder per class with the images or WAV files of that class, nothing else; "
            "or files alone, which have no labels then"
        )
    files = [(path, label) for label, entry in enumerate(entries) for path in _files(entry)]
    return tuple(printable(path.name) for path in entries), files


def _files(folder: Path) -> list[Path]:
    files = _entries(folder)
    if not files:
        raise DataError(f"{folder}: is empty; put images or WAV files into it or remove it")
    # Opening a pipe would wait for whoever writes into it, and a device may never end.
    if odd := [path for path in files if path.exists() and not (path.is_file() or path.is_dir())]:
        raise DataError(f"{odd[0]}: is a pipe, a socket or a device, not a file; move it away")
    if subfolders := [path for path in files if path.is_dir()]:
        raise DataError(
            f"{subfolders[0]}: is a folder inside a class folder, which holds files only (train and test are "
            "recognized as parts when nothing else is beside them)"
        )
    return files
