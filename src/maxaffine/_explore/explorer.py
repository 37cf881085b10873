"""Everything the page can ask, as methods from plain values to what JSON can hold."""

from __future__ import annotations

from typing import Any

from maxaffine._drawing import kind_of
from maxaffine._explore.answers import explain
from maxaffine._explore.near import Near
from maxaffine._explore.planes import MOST_CELLS, Planes
from maxaffine._explore.shelf import Picked, Shelf
from maxaffine._explore.subject import Subject
from maxaffine.errors import BadInput

TRAIN_LIMIT = 5000


class Explorer:
    """A network and its data, to be asked.

    Args:
        subject: What is explored.
        train_limit: Training inputs to search for neighbors, at most.
        most_cells: A plane of more cells is refused.

    Example:
        >>> import torch
        >>> from maxaffine import capture
        >>> from maxaffine.data import load
        >>> from maxaffine._explore import Checkpoint
        >>> digits = load("digits")
        >>> net = capture(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), digits.test.inputs[:2])
        >>> explorer = Explorer(Subject("linear", digits, (Checkpoint("now", net),)))
        >>> explorer.explain("test/0", 0)["count"]
        10
    """

    def __init__(self, subject: Subject, train_limit: int = TRAIN_LIMIT, most_cells: int = MOST_CELLS) -> None:
        self.subject = subject
        self.shelf = Shelf(subject.data, subject.labeled)
        self.near = Near(subject, train_limit)
        self.planes = Planes(subject, most_cells)

    def about(self) -> dict[str, Any]:
        """What is explored: names, sizes, checkpoints, operators."""
        subject = self.subject
        return {
            "model": subject.model,
            "data": subject.data.name,
            "input_shape": list(subject.data.input_shape),
            "kind": kind_of(subject.data.input_shape).value,
            "sizes": {"test": len(subject.data.test), "train": len(subject.data.train)},
            "labels": list(subject.data.class_names) if subject.labeled else [],
            "task": subject.task.value,
            "classifies": subject.classifies,
            "order": "" if subject.order is None else f"{subject.order.finding} {subject.order.cure}",
            "outputs": list(subject.names),
            "classes": list(subject.class_names),
            "checkpoints": [checkpoint.name for checkpoint in subject.checkpoints],
            "operators": [
                {"name": record.name, "kind": record.kind, "units": list(record.units), "pieces": record.pieces}
                for record in subject.checkpoints[0].net.operators
            ],
        }

    def images(self, part: str, label: int | None, start: int, count: int) -> dict[str, Any]:
        """A page of inputs to pick from; the arguments are those of `Shelf.page`."""
        picked, total = self.shelf.page(part, label, max(0, start), count)
        return {"total": total, "images": [_card(item) for item in picked]}

    def upload(self, content: bytes, name: str) -> dict[str, Any]:
        """Keep an input from a file; the arguments are those of `Shelf.upload`."""
        return _card(self.shelf.upload(content, name))

    def explain(self, image: str, checkpoint: int) -> dict[str, Any]:
        """Outputs, templates and offsets of one input at one checkpoint."""
        return explain(self.subject, self.subject.checkpoints[self._place(checkpoint)], self.shelf.pick(image))

    def neighbors(self, image: str, checkpoint: int) -> dict[str, Any]:
        """The nearest training inputs by depth, or how far their encoding is."""
        return self.near.answer(self._place(checkpoint), self.shelf.pick(image))

    def divide(self, images: list[str], checkpoint: int, window: list[float] | None) -> dict[str, Any]:
        """Begin to divide the plane through three inputs; with none, that of a field's coordinates."""
        anchors = [self.shelf.pick(image) for image in images]
        if window is not None and len(window) != 4:
            raise BadInput("window: expected left, right, bottom and top")
        sides = None if window is None else (window[0], window[1], window[2], window[3])
        return self.planes.begin(self._place(checkpoint), anchors, sides)

    def keep_center(self, key: str, cell: int) -> dict[str, Any]:
        """Keep the input at the center of a cell, so that it can be picked."""
        self.planes.cell(key, cell)
        return _card(self.shelf.keep(self.planes.center(key, cell), f"center of cell {cell}"))

    def close(self, seconds: float = 0.0) -> bool:
        """End what goes on in the background; the argument and the answer are those of `Desk.close`."""
        return all([self.near.close(seconds), self.planes.close(seconds)])

    def _place(self, checkpoint: int) -> int:
        count = len(self.subject.checkpoints)
        if not 0 <= checkpoint < count:
            raise BadInput(f"checkpoint: numbers run from 0 to {count - 1}, got {checkpoint}")
        return checkpoint


def _card(picked: Picked) -> dict[str, Any]:
    return {"image": picked.ref, "name": picked.name, "label": picked.label}
