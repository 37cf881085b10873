"""Everything the page can ask, as methods from plain values to what JSON can hold."""

from collections.abc import Mapping
from typing import Any

from maxaffine._drawing import is_image, kind_of
from maxaffine._explore.answers import explain
from maxaffine._explore.near import Near
from maxaffine._explore.planes import MOST_CELLS, Planes
from maxaffine._explore.shelf import Picked, Shelf
from maxaffine._report import LabelOrder, Subject, Window, spread_evenly
from maxaffine.errors import BadInput

TRAIN_LIMIT = 5000
# Numbers that may be computed to answer test inputs before the page is there, some seconds; and inputs asked at least.
WORK, FEWEST = 1e9, 32


class Explorer:
    """A network at one or several moments of its training, in order, and its data, to be asked."""

    def __init__(
        self, moments: Mapping[str, Subject], train_limit: int = TRAIN_LIMIT, most_cells: int = MOST_CELLS
    ) -> None:
        _check(moments)
        self.names, self.subjects = tuple(moments), tuple(moments.values())
        self.subject = self.subjects[-1]
        self.order = _order(self.subject)  # of the labels, if the last network answers far better in another one
        self.shelf = Shelf(self.subject)
        self.near = Near(self.subjects, train_limit)
        self.planes = Planes(self.subjects, most_cells)

    def about(self) -> dict[str, Any]:
        """What is explored: names, sizes, moments, operators."""
        subject = self.subject
        return {
            "model": subject.name,
            "data": subject.data.name,
            "input_shape": list(subject.data.input_shape),
            "features": list(subject.data.feature_names),
            "kind": kind_of(subject.data.input_shape).value,
            "rate": subject.data.rate,
            "sizes": {"test": len(subject.data.test), "train": len(subject.data.train)},
            "labels": list(subject.data.class_names) if subject.labeled else [],
            "task": subject.net.task(subject.output).value,
            "classifies": subject.classifies,
            "order": "" if self.order is None else f"{self.order.finding} {self.order.cure}",
            "outputs": list(subject.names),
            "pictured": is_image(subject.units),
            "ending": _ending(subject),
            "classes": list(subject.answer_names),
            "checkpoints": list(self.names),
            "operators": [
                {"name": record.name, "kind": record.kind, "units": list(record.units), "pieces": record.pieces}
                for record in subject.net.operators
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
        return explain(self.subjects[self._place(checkpoint)], self.shelf.pick(image))

    def neighbors(self, image: str, checkpoint: int) -> dict[str, Any]:
        """The nearest training inputs by depth, or how far their encoding is."""
        return self.near.answer(self._place(checkpoint), self.shelf.pick(image))

    def divide(self, images: list[str], checkpoint: int, window: Window | None) -> dict[str, Any]:
        """Begin to divide the plane through three inputs; with none, that of a field's coordinates."""
        anchors = [self.shelf.pick(image) for image in images]
        return self.planes.begin(self._place(checkpoint), anchors, window)

    def keep_center(self, key: str, cell: int) -> dict[str, Any]:
        """Keep the input at the center of a cell, so that it can be picked."""
        self.planes.cell(key, cell)
        return _card(self.shelf.keep(self.planes.center(key, cell), f"center of cell {cell}"))

    def close(self, seconds: float = 0.0) -> bool:
        """End what goes on in the background; the argument and the answer are those of `Desk.close`."""
        return all([self.near.close(seconds), self.planes.close(seconds)])

    def _place(self, checkpoint: int) -> int:
        if not 0 <= checkpoint < len(self.subjects):
            raise BadInput(f"checkpoint: numbers run from 0 to {len(self.subjects) - 1}, got {checkpoint}")
        return checkpoint


def _check(moments: Mapping[str, Subject]) -> None:
    """Check that there is something to show, before anything is computed."""
    if not moments:
        raise BadInput("moments: none is given; give at least one network")
    first = next(iter(moments.values()))
    kind_of(first.data.input_shape)
    for name, subject in moments.items():
        if not (len(subject.units) == 1 or is_image(subject.units)) or subject.units != first.units:
            raise BadInput(
                f"{name}: gives {subject.units} for each input, but the explorer shows vectors or pictures, of one"
                " shape at every checkpoint; stop after a layer that gives one with --until, or choose an output"
            )


def _ending(subject: Subject) -> str:
    """The name of the activation that was left out after the output; "" where none was."""
    ending = subject.net.endings[subject.output] if subject.net.endings else None
    return "" if ending is None else ending.name


def _order(subject: Subject) -> LabelOrder | None:
    """Ask evenly spaced test inputs, as many as take some seconds."""
    if subject.fresh or not subject.classifies:
        return None
    asked = spread_evenly(len(subject.test), max(FEWEST, subject.affordable(WORK, len(subject.test))))
    return subject.order(subject.ask(subject.test[asked]), asked)


def _card(picked: Picked) -> dict[str, Any]:
    return {"image": picked.ref, "name": picked.name, "label": picked.label}
