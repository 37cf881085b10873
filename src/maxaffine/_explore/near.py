"""Which training inputs a network treats like a given one, by depth; they are encoded once, in the background."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._codes import Codes
from maxaffine._explore.jobs import Desk, Job, Tell
from maxaffine._explore.shelf import Picked
from maxaffine._report import Subject, number, spread_evenly
from maxaffine._search import CodeIndex

BATCH = 64
KEPT = 4
DEPTHS = 6
NEAREST = 8


@dataclass(frozen=True, eq=False)
class Searched:
    """The encoded training inputs at one moment."""

    index: CodeIndex | None  # None for a network without piecewise-affine operators
    operators: tuple[str, ...]  # where they are compared, in running order
    left_out: tuple[str, ...] = ()  # where they would be, but that never switch on them


class Near:
    """Neighbors by depth, among at most ``limit`` evenly spaced training inputs."""

    def __init__(self, subjects: Sequence[Subject], limit: int) -> None:
        self._subjects = subjects
        self._data, self._labeled = subjects[-1].data, subjects[-1].labeled
        self.numbers = spread_evenly(len(self._data.train), limit)
        self._inputs = self._data.train.inputs[self.numbers]
        # One more than are shown: the input itself may be among them.
        self._count = min(NEAREST + 1, len(self.numbers))
        self._desk: Desk[Searched] = Desk(KEPT)

    def begin(self, place: int) -> Job[Searched]:
        """Encode for one moment, unless that is done or under way."""
        return self._desk.ask(place, lambda tell: self._encode(self._subjects[place], tell))

    def answer(self, place: int, picked: Picked) -> dict[str, Any]:
        """How far the encoding is; once it is done, the nearest at some depths, and in the inputs themselves."""
        job = self.begin(place)
        status = job.status | {"searched": len(self.numbers), "available": len(self._data.train)}
        if job.result is None:
            return status
        subject, searched = self._subjects[place], job.result
        rows = [{"operator": None, "kind": "", "near": self._nearest(*self._in_inputs(picked), picked)}]
        if searched.index is not None and searched.operators:
            kinds = {record.name: record.kind for record in subject.net.operators}
            codes = subject.net.codes(subject.like(picked.tensor[None]), searched.operators)
            for name in searched.operators:
                found = searched.index.search(codes, self._count, {name: 1.0}, progress=False)
                near = self._nearest(found.ids[0], found.distances[0], picked)
                rows.append({"operator": name, "kind": kinds[name], "near": near})
        return status | {"rows": rows, "left_out": list(searched.left_out)}

    def close(self, seconds: float = 0.0) -> bool:
        """End the encoding; the argument and the answer are those of `Desk.close`."""
        return self._desk.close(seconds)

    def _encode(self, subject: Subject, tell: Tell) -> Searched:
        names = [record.name for record in subject.net.operators if record.pieces > 1]
        if not names:
            return Searched(None, ())
        chosen = [names[place] for place in spread_evenly(len(names), DEPTHS).tolist()]
        batches: list[Codes] = []
        # Small ones, since work that was given up ends between two of them.
        for part in slices(len(self._inputs), BATCH):
            tell(part.start / len(self._inputs), "encoding the training inputs")
            batches.append(subject.net.codes(subject.like(self._inputs[part]), chosen))
        index = CodeIndex(Codes.concat(batches))
        return Searched(index, tuple(name for name in chosen if name not in index.unswitched), index.unswitched)

    def _in_inputs(self, picked: Picked) -> tuple[Tensor, Tensor]:
        distances = (self._inputs - picked.tensor).flatten(1).norm(dim=1)
        found = distances.sort(stable=True)
        return found.indices[: self._count], found.values[: self._count]

    def _nearest(self, rows: Tensor, distances: Tensor, picked: Picked) -> list[dict[str, Any]]:
        labels = self._data.train.labels
        near = []
        for row, distance in zip(rows.tolist(), distances.tolist(), strict=True):
            index = int(self.numbers[row])
            ref = f"train/{index}"
            if ref != picked.ref:
                label = int(labels[index]) if self._labeled else None
                targets = self._subjects[-1].targets_in_words(self._data.train, index)
                near.append({"image": ref, "label": label, "targets": targets, "distance": number(distance)})
        return near[:NEAREST]
