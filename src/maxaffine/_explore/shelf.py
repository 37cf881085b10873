"""The inputs that can be picked, by short references: those of the data set, uploads, and points of planes."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine._data import read_input
from maxaffine._drawing import input_pixels, png_of
from maxaffine._report import Subject
from maxaffine.errors import BadInput

PARTS = ("test", "train")
OWN = "own"
MOST_OWN = 100
MOST_ON_PAGE = 200
THUMBNAIL = 96
NAME_LETTERS = 60


@dataclass(frozen=True, eq=False)
class Picked:
    """One input."""

    ref: str  # e.g. ``"test/12"`` or ``"own/0"``
    name: str
    tensor: Tensor
    label: int | None  # where it is known


class Shelf:
    """Inputs by reference."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._data = subject.data
        self._own: OrderedDict[int, Picked] = OrderedDict()
        self._next = 0
        self._lock = threading.Lock()

    def pick(self, ref: str) -> Picked:
        """The input that ``test/N``, ``train/N`` or ``own/N`` names."""
        part, _, text = ref.partition("/")
        # A reference comes from outside: no sign, no other digits, and none so long that it takes time to read.
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
        if part == OWN:
            with self._lock:
                if number in self._own:
                    return self._own[number]
        elif part in PARTS:
            split = self._data.test if part == "test" else self._data.train
            if 0 <= number < len(split):
                label = int(split.labels[number]) if self._subject.labeled else None
                targets = self._subject.targets_in_words(split, number)
                name = f"{part} {number}" + (f", target {targets}" if targets else "")
                return Picked(ref, name, split.inputs[number], label)
        raise BadInput(f"image: there is no {ref[:NAME_LETTERS]!r}; pick another one")

    def upload(self, content: bytes, name: str) -> Picked:
        """Keep an input from the bytes of a file, an image, a WAV file or .npy."""
        short = "".join(letter for letter in name if letter.isprintable())[:NAME_LETTERS] or "upload"
        return self.keep(read_input(content, short, self._data.input_shape, self._data.rate), short)

    def keep(self, tensor: Tensor, name: str) -> Picked:
        """Keep an input; the oldest of more than a hundred is forgotten."""
        with self._lock:
            picked = Picked(f"{OWN}/{self._next}", name, tensor.float(), None)
            self._own[self._next] = picked
            self._next += 1
            if len(self._own) > MOST_OWN:
                self._own.popitem(last=False)
            return picked

    def page(self, part: str, label: int | None, start: int, count: int) -> tuple[list[Picked], int]:
        """Some inputs of ``test``, ``train`` or ``own``, of one class or of any, and how many there are in all."""
        count = max(0, min(count, MOST_ON_PAGE))
        if part == OWN:
            with self._lock:
                kept = list(self._own.values())
            return kept[start : start + count], len(kept)
        if part not in PARTS:
            raise BadInput(f"part: {part[:NAME_LETTERS]!r} is none of {', '.join((*PARTS, OWN))}")
        labels = (self._data.test if part == "test" else self._data.train).labels
        numbers = torch.arange(len(labels)) if label is None else (labels == label).nonzero().flatten()
        return [self.pick(f"{part}/{number}") for number in numbers[start : start + count].tolist()], len(numbers)

    def thumbnail(self, ref: str) -> bytes:
        """A small PNG of an input: a picture, or bars."""
        return png_of(input_pixels(self._subject.picture_of(self.pick(ref).tensor)), THUMBNAIL)
