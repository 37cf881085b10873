"""The record that every loader returns, and the seeded split of a set that comes without one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput, DataError
from .names import read_names, renumbering

# What the inputs of a source without labels are called.
UNLABELED = ("unlabeled",)


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set: inputs with their labels. Anything else than the shapes below is a DataError.

    Args:
        inputs: (N, C, H, W) float32 images in [0, 1], (N, C, T) float32 signals, or (N, D) float32 tabular rows.
        labels: (N,) int64 class numbers, 0 or more; all 0 where nothing is labeled.

    >>> split = Split(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    >>> split
    Split(3 x (1, 8, 8))
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check what the fields promise."""
        _check_split(self)

    def __len__(self) -> int:
        """Return the number of inputs N."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Return the sizes, never the numbers."""
        return f"Split({len(self)} x {tuple(self.inputs.shape[1:])})"

    def take(self, indices: Tensor | slice) -> Split:
        """The rows at some indices, as a split.

        Args:
            indices: (n,) int64 tensor, or a slice.

        Returns:
            A split of n rows; a slice shares memory with this one.

        >>> Split(torch.zeros(3, 2), torch.arange(3)).take(slice(0, 2)).labels
        tensor([0, 1])
        """
        return Split(self.inputs[indices], self.labels[indices])

    def marks(self, indices: slice) -> np.ndarray:
        """One number per input by which a changed one is noticed: a CRC-32 of its label and its numbers.

        Args:
            indices: Which, n of them.

        Returns:
            (n,) uint32.
        """
        rows = np.ascontiguousarray(self.inputs[indices].detach().cpu().numpy())
        labels = self.labels[indices].cpu().numpy()
        sums = [zlib.crc32(row, zlib.crc32(label)) for row, label in zip(rows, labels, strict=True)]
        return np.array(sums, dtype=np.uint32)


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """A named data set with its training and test part. Parts that do not belong together are a DataError.

    Args:
        name: Its name, or the stem of the path that it came from.
        train: The part to learn from.
        test: The part to judge by; inputs of the same shape.
        class_names: C names; label c is called ``class_names[c]``. A single one where nothing is labeled.
        set_aside: Whether the test part was drawn from one whole when it was read: a network that was trained on all
            of it elsewhere knows these inputs.

    Raises:
        DataError: The two parts have other shapes, or a label has no name.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    set_aside: bool = False

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        _check_parts(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W), (C, T) or (D,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    def ordered(self, class_names: str | os.PathLike[str] | Sequence[str]) -> DataSet:
        """The same data with its classes numbered in the order of a network's outputs.

        Output c of a network stands for class c of the data that it was trained on. Another data set may number the
        same classes otherwise (a folder's are sorted by name): then labels are mapped to outputs by their names.

        Args:
            class_names: The name of each output: a sequence, a file with one on each line, or a text with commas. Every
                class of the data is among them; there may be more.

        Returns:
            The data set, in which label c is called ``class_names[c]``.

        Raises:
            BadInput: A name is given twice, a class of the data is not among them, or the data has no labels.

        >>> split = Split(torch.zeros(2, 1), torch.tensor([0, 1]))
        >>> DataSet("pets", split, split, ("cat", "dog")).ordered(["dog", "cat"]).train.labels
        tensor([1, 0])
        """
        names = read_names(class_names)
        places = renumbering(self.name, self.class_names, names)
        train, test = (Split(part.inputs, places[part.labels]) for part in (self.train, self.test))
        return replace(self, train=train, test=test, class_names=names)

    def __repr__(self) -> str:
        """Return the sizes, never the numbers."""
        sizes = f"train {len(self.train)}, test {len(self.test)}"
        return f"DataSet({self.name!r}, input_shape={self.input_shape}, {sizes}, {self.classes} classes)"


def without_classes(class_names: Sequence[str]) -> str:
    """Why a data set has no classes to tell apart, for a message.

    Args:
        class_names: The names of its classes.

    Returns:
        What it lacks; empty where there are two classes or more.

    >>> without_classes(UNLABELED), without_classes(["cat"])
    ('the data has no labels', "every label of the data is 0 ('cat')")
    """
    if len(class_names) > 1:
        return ""
    if tuple(class_names) == UNLABELED:
        return "the data has no labels"
    return f"every label of the data is 0 ({class_names[0]!r})"


def printable(name: str) -> str:
    r"""The name of a file as text that can be printed, whatever bytes it has.

    Args:
        name: The name, as Python gives it.

    Returns:
        The same; what is no UTF-8 as its number.

    >>> printable(os.fsdecode(b"caf\xe9"))
    'caf\\xe9'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def split_by_class(name: str, whole: Split, class_names: tuple[str, ...], test_fraction: float, seed: int) -> DataSet:
    """Set a share of every class aside for testing, the same share for the same seed.

    Of a class with n >= 2 members, max(1, round(test_fraction * n)) are drawn without replacement, at most n - 1; a
    class with one member stays in the training part. The order of the file is kept inside both parts.

    Args:
        name: Name of the data set.
        whole: All its rows.
        class_names: C names.
        test_fraction: Share of each class, strictly between 0 and 1.
        seed: Seed of the draw.

    Returns:
        The data set with both parts.

    Raises:
        BadInput: The share is not strictly between 0 and 1, or the seed is no whole number of at least 0.
        DataError: No class has two members, so nothing could be set aside.

    >>> whole = Split(torch.zeros(10, 2), torch.arange(10) % 2)
    >>> split_by_class("ten", whole, ("even", "odd"), test_fraction=0.2, seed=0)
    DataSet('ten', input_shape=(2,), train 8, test 2, 2 classes)
    """
    if not 0 < test_fraction < 1:
        raise BadInput(f"test_fraction: {test_fraction} is not strictly between 0 and 1; the default is 0.2")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed: {seed!r} is no whole number of at least 0")
    labels = whole.labels.numpy()
    generator = np.random.default_rng(seed)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        wanted = max(1, round(test_fraction * len(members)))
        in_test[generator.permutation(members)[: min(wanted, len(members) - 1)]] = True
    if not in_test.any():
        raise DataError(
            f"{name}: no class has two members, so no test part can be set aside; provide a test part of its own"
        )
    train, test = (whole.take(torch.from_numpy(np.flatnonzero(chosen))) for chosen in (~in_test, in_test))
    return DataSet(name, train, test, class_names, set_aside=True)


def _check_split(split: Split) -> None:
    if split.inputs.ndim not in (2, 3, 4) or split.inputs.dtype != torch.float32:
        found = f"{tuple(split.inputs.shape)} {split.inputs.dtype}"
        raise DataError(
            f"inputs: expected (N, C, H, W), (N, C, T) or (N, D) float32, got {found}; reshape or cast them"
        )
    if split.labels.ndim != 1 or split.labels.dtype != torch.int64:
        found = f"{tuple(split.labels.shape)} {split.labels.dtype}"
        raise DataError(f"labels: expected (N,) int64, got {found}; reshape or cast them")
    if len(split.inputs) != len(split.labels):
        raise DataError(f"{len(split.inputs)} inputs but {len(split.labels)} labels; each input needs one label")
    if split.inputs.numel() == 0:
        raise DataError(f"inputs: shape {tuple(split.inputs.shape)} holds nothing; give at least one input")
    if int(split.labels.min()) < 0:
        raise DataError(f"labels: {int(split.labels.min())} is negative; number the classes from 0")


def _check_parts(data: DataSet) -> None:
    shapes = [tuple(split.inputs.shape[1:]) for split in (data.train, data.test)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{data.name}: one training input is {shapes[0]}, one test input {shapes[1]}; make them equal")
    highest = max(int(data.train.labels.max()), int(data.test.labels.max()))
    if highest >= len(data.class_names):
        raise DataError(
            f"{data.name}: label {highest} has no name among {len(data.class_names)} class names; "
            "number the classes from 0 and name each"
        )
