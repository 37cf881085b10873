"""The record that every loader returns, and the seeded split of a set that comes without one."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._files import checksum
from ..errors import BadInput, DataError

# What the inputs of a source without labels are called.
UNLABELED = ("unlabeled",)


@dataclass(frozen=True, eq=False, repr=False)
class Split(Dataset[tuple[Tensor, Tensor]]):
    """One part of a data set, inputs with their labels: a ``torch.utils.data.Dataset``.

    Args:
        inputs: (N, C, H, W) float32 images in [0, 1], (N, C, D, H, W) volumes, (N, C, T) signals, or (N, D) tabular
            rows, float32 too.
        labels: (N,) int64 class numbers, 0 or more; all 0 where nothing is labeled.
        targets: (N, K) float32 values to be predicted, K of each input; None where there are none. Labels are then 0.

    Raises:
        DataError: The tensors have other shapes, dtypes or lengths, or are empty.

    >>> split = Split(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    >>> split
    Split(3 x (1, 8, 8))
    >>> next(iter(torch.utils.data.DataLoader(split, batch_size=2)))[1]
    tensor([0, 1])
    """

    inputs: Tensor
    labels: Tensor
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        """Check what the fields promise."""
        inputs, labels = (f"{tuple(item.shape)} {item.dtype}" for item in (self.inputs, self.labels))
        if self.inputs.ndim not in (2, 3, 4, 5) or self.inputs.dtype != torch.float32:
            raise DataError(
                f"inputs: expected (N, C, H, W), (N, C, D, H, W), (N, C, T) or (N, D) float32, got {inputs}; reshape or"
                " cast them"
            )
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise DataError(f"labels: expected (N,) int64, got {labels}; reshape or cast them")
        if len(self.inputs) != len(self.labels):
            raise DataError(f"labels: {len(self.labels)} for {len(self.inputs)} inputs; give one label per input")
        if self.inputs.numel() == 0:
            raise DataError(f"inputs: {inputs} holds nothing; give at least one input")
        if int(self.labels.min()) < 0:
            raise DataError(f"labels: {int(self.labels.min())} is negative; number the classes from 0")
        if (targets := self.targets) is not None:
            if targets.dtype != torch.float32 or targets.ndim != 2 or not targets.numel():
                raise DataError(
                    f"targets: expected (N, K) float32, got {tuple(targets.shape)} {targets.dtype}; cast them"
                )
            if len(targets) != len(self.inputs):
                raise DataError(f"targets: {len(targets)} for {len(self.inputs)} inputs; give a row for each input")
            if not targets.isfinite().all():
                raise DataError("targets: some are NaN or infinite in float32; replace them")

    def __len__(self) -> int:
        """Return the number of inputs N."""
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Return one input with its label, or with its targets where there are some."""
        return self.inputs[row], (self.labels if self.targets is None else self.targets)[row]

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
        targets = None if self.targets is None else self.targets[indices]
        return Split(self.inputs[indices], self.labels[indices], targets)

    def marks(self, indices: slice) -> np.ndarray:
        """One number per input by which a changed one is noticed, (n,) uint32: a CRC-32 of its label and numbers."""
        inputs, labels = (item[indices].detach().cpu().contiguous().numpy() for item in (self.inputs, self.labels))
        sums = [checksum(label, row) for row, label in zip(inputs, labels, strict=True)]
        return np.array(sums, dtype=np.uint32)


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """A named data set with its training and test part.

    Args:
        name: Its name, or the stem of the path that it came from.
        train: The part to learn from.
        test: The part to judge by; inputs of the same shape.
        class_names: C names; label c is called ``class_names[c]``. A single one where nothing is labeled.
        set_aside: Whether the test part was drawn from one whole when it was read: a network that was trained on all
            of it elsewhere knows these inputs.
        feature_names: D names, of the columns of a table; empty where they have none.
        target_names: Names of the K targets, or of the column that the classes come from; empty likewise.
        rate: Samples per second (Hz) of signals (N, C, T) or (N, T); None where it is not known.

    Raises:
        DataError: The two parts have other shapes, or a label, feature or target has no name, or the rate is no rate.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    set_aside: bool = False
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    rate: int | float | None = None

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        shapes = [tuple(split.inputs.shape[1:]) for split in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{self.name}: one training input is {shapes[0]}, one test input {shapes[1]}; make them equal, e.g. "
                "images with size=(height, width)"
            )
        highest = max(int(self.train.labels.max()), int(self.test.labels.max()))
        if highest >= self.classes:
            raise DataError(
                f"{self.name}: label {highest} has no name among {self.classes} class names; number the classes from 0 "
                "and name each"
            )
        counts = [None if split.targets is None else split.targets.shape[1] for split in (self.train, self.test)]
        if counts[0] != counts[1]:
            raise DataError(f"{self.name}: {counts[0]} targets for training, {counts[1]} for testing; make them equal")
        for what, names, count in (
            ("features", self.feature_names, self.input_shape[0]),
            ("targets", self.target_names, counts[0] or 1),
        ):
            if names and len(names) != count:
                raise DataError(f"{self.name}: {len(names)} names for {count} {what}; name each, or none")
        if self.rate is not None and not (0 < self.rate < math.inf and len(self.input_shape) < 3):
            raise DataError(f"{self.name}: rate {self.rate} is not a number of samples per second of signals (N, C, T)")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W), (C, D, H, W), (C, T) or (D,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    @property
    def outputs(self) -> int:
        """Number of outputs that a network for this data has: K targets, or else C classes."""
        return self.classes if self.train.targets is None else self.train.targets.shape[1]

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
        train, test = (replace(part, labels=places[part.labels]) for part in (self.train, self.test))
        return replace(self, train=train, test=test, class_names=names)

    def __repr__(self) -> str:
        """Return the sizes, never the numbers."""
        sizes = f"train {len(self.train)}, test {len(self.test)}"
        said = f"{self.classes} classes" if self.train.targets is None else f"{self.outputs} targets"
        said = f"{said}: {', '.join(self.target_names)}" if self.target_names else said
        return f"DataSet({self.name!r}, input_shape={self.input_shape}, {sizes}, {said})"


def without_classes(class_names: Sequence[str]) -> str:
    """Why a data set has no classes to tell apart, for a message; empty where there are two classes or more."""
    if len(class_names) > 1:
        return ""
    if tuple(class_names) == UNLABELED:
        return "the data has no labels"
    return f"every label of the data is 0 ({class_names[0]!r})"


def printable(name: str) -> str:
    """The name of a file as text that can be printed: bytes that are not UTF-8 become their numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def split_by_class(name: str, whole: Split, class_names: tuple[str, ...], test_fraction: float, seed: int) -> DataSet:
    """Set a share of every class aside for testing, the same for the same seed; both parts keep the order."""
    if not 0 < test_fraction < 1:
        raise BadInput(f"test_fraction: {test_fraction} is not strictly between 0 and 1; the default is 0.2")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed: {seed!r} is not a whole number of at least 0; the default is 0")
    labels = whole.labels.numpy()
    generator = np.random.default_rng(seed)
    in_test = np.zeros(len(labels), dtype=bool)
    # Each class is drawn from by itself: at least one member goes into either part; a single one stays for training.
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


def read_names(given: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """The names of classes, output by output: a sequence, a file with one on each line, or a text with commas."""
    names = tuple(_names_in(os.fspath(given)) if isinstance(given, str | os.PathLike) else given)
    if len(names) < 2 or "" in names:
        raise BadInput(
            f"class_names: {str(given)[:80]!r} is neither a file nor names; give at least two names, none of them "
            "empty, in a list, between commas or one on each line of a file"
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadInput(f"class_names: given twice: {twice[:5]}; name each output once")
    return names


def renumbering(data: str, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Where each class of the data goes when classes are numbered in another order, (C,) int64."""
    if len(names) < 2:
        raise BadInput(f"class_names: {data} has no labels to put in another order; leave it out")
    places = {name: place for place, name in enumerate(wanted)}
    if missing := [name for name in names if name not in places]:
        close = difflib.get_close_matches(missing[0], wanted, n=1)
        hint = f" (is {missing[0]!r} the same as {close[0]!r}?)" if close else ""
        raise BadInput(
            f"class_names: {missing[:5]} of {data} are not among the {len(wanted)} names{hint}; use the"
            f" data's own, {list(names)[:5]}{' ...' if len(names) > 5 else ''}, in the order of the network's outputs"
        )
    return torch.tensor([places[name] for name in names])


def _names_in(text: str) -> list[str]:
    try:
        lines = Path(text).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError):
        # No file of this name, or not a file's name at all.
        return [name.strip() for name in text.split(",")]
    # A file ends in a line break; an empty line elsewhere is a name that is missing.
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]
