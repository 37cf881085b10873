"""Planes through three inputs, or of a field: divided in the background, drawn by the page, asked about by cell."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import is_image
from maxaffine._explore.answers import largest, picture
from maxaffine._explore.jobs import Desk, Ended, Job, Tell
from maxaffine._explore.shelf import Picked
from maxaffine._generators import log_volume
from maxaffine._graph import as_tuple
from maxaffine._partition import PlanePartition, plane
from maxaffine._report import DrawnPlane, Meaning, Subject, Window, around, coordinate_plane, drawn_array, number
from maxaffine.errors import BadInput

# The outputs at all vertices are held a few times over, so that many outputs leave room for fewer cells.
MOST_CELLS, MOST_OUTPUTS = 400_000, 4e7
# The first operator divides the whole window in one step, however many cells that makes. So a network of many units is
# looked at through the middle of the window first, ever more of it (parts of its sides) while that promises to fit.
PARTS = (*(4.0**-power for power in range(6, 0, -1)), 0.5, 1.0)
FEW_UNITS = 1500
MEMORY = 16 * 2**20
KEPT = 3
MARGIN = 0.15
MOST_PIECES = 16


class TooMany(BadInput):
    """More cells than are kept."""


class Planes:
    """The planes that were asked for, of at most so many cells; of fewer where there are many outputs."""

    def __init__(self, subjects: Sequence[Subject], most_cells: int = MOST_CELLS) -> None:
        self._subjects, self._subject = subjects, subjects[-1]
        self._most = min(most_cells, int(MOST_OUTPUTS / len(self._subject.names)))
        self._desk: Desk[DrawnPlane] = Desk(KEPT)

    def begin(self, place: int, anchors: list[Picked], window: Window | None) -> dict[str, Any]:
        """Divide a plane, unless that is done or under way; another one that is under way is given up."""
        # The window is in distances from the first input towards the second, or in coordinates.
        if not anchors and self._subject.meaning is Meaning.FIELD:
            points, window = torch.zeros(0, 2), window or coordinate_plane(self._subject.data.test.inputs).window
        elif len(anchors) != 3:
            raise BadInput(f"images: a plane goes through three, got {len(anchors)}")
        else:
            points = _coordinates(torch.stack([picked.tensor for picked in anchors]).double())
            window = window or around(points, MARGIN)
        key = "~".join([str(place), *(picked.ref for picked in anchors), *(repr(side) for side in window)])
        job = self._desk.ask(key, lambda tell: self._divide(place, anchors, window, tell))
        return {"key": key, "window": window, "anchors": points.tolist()} | _status(job)

    def state(self, key: str) -> dict[str, Any]:
        """How far a plane is: its state, the share done and a few words; its summary once it is done."""
        return _status(self._job(key))

    def cancel(self, key: str) -> dict[str, Any]:
        """Give a plane up; the largest part of its middle that was divided already is kept."""
        job = self._job(key)
        job.cancel()
        return _status(job)

    def close(self, seconds: float = 0.0) -> bool:
        """Give all planes up; the argument and the answer are those of `Desk.close`."""
        return self._desk.close(seconds)

    def view(self, key: str, window: Window, width: int, height: int) -> dict[str, Any]:
        """What is seen of a divided plane; the arguments are those of `DrawnPlane.view`, after the plane's key."""
        return self._done(key).view(window, width, height)

    def cell(self, key: str, cell: int) -> dict[str, Any]:
        """The network on one cell: outputs at its center, the template that holds all over it, codes, and its sides."""
        shown = self._done(key)
        found = shown.cells
        if not 0 <= cell < found.regions:
            raise BadInput(f"cell: numbers run from 0 to {found.regions - 1}, got {cell}")
        # The template of the answer, where outputs compete; of values that of the first.
        group = int(shown.groups[cell])
        row = group if self._subject.competes else 0
        amap = found.affine_map([cell], outputs=[row])
        x, template, offset = self.center(key, cell), as_tuple(amap.slopes)[0][0, 0], amap.offsets
        values = found.at(found.centers[cell][None])[0]
        return {
            "cell": cell,
            "group": group,
            "center": found.centers[cell].tolist(),
            "area": number(found.areas[cell]),
            "input": drawn_array(x),
            "outputs": largest(self._subject, values),
            "picture": picture(self._subject, values),
            "log_volume": self._log_volume(found, x),
            "count": len(values),
            "unit": row,
            "template": drawn_array(template),
            "inner": number((template * x).sum()),
            "offset": number(offset[0, 0]),
            "codes": _codes(found, cell),
            "sides": self._sides(shown, cell),
        }

    def _log_volume(self, found: PlanePartition, x: Tensor) -> float | None:
        """How a generator of pictures stretches a latent; None of other networks, or where it is minus infinity."""
        units, output = self._subject.units, self._subject.output
        if not is_image(units) or x.numel() > math.prod(units):
            return None
        return number(log_volume(found.frame.net, x[None], output=output)[0])

    def center(self, key: str, cell: int) -> Tensor:
        """The input at the center of a cell, (*input_shape) float64."""
        found = self._done(key).cells
        return found.frame.points(found.centers[cell][None])[0][0]

    def _divide(self, place: int, anchors: list[Picked], window: Window, tell: Tell) -> DrawnPlane:
        """The window, or as much of its middle as has few enough regions."""
        units = sum(math.prod(r.units) for r in self._subjects[place].net.operators if r.pieces > 1)
        parts = PARTS if units > FEW_UNITS else (1.0,)
        best, before, why = None, 1.0, f"seems to have more regions than the {self._most:,} that are kept"
        for turn, part in enumerate(parts):
            # Regions grow about as the area does, so the next part is tried only where it may fit.
            if best is not None and best.regions * (part / before) ** 2 > 2 * self._most:
                break
            try:
                watch = partial(_tell_part, tell, turn, parts)
                best, before = self._exactly(place, anchors, _middle(window, part), watch), part
            except (TooMany, Ended) as ended:
                if best is None:
                    raise
                why = "was not divided to the end" if isinstance(ended, Ended) else why
                break
        if best is None:
            raise TooMany("there is no part of the window to look at")
        if before == 1:
            return best
        return replace(
            best, note=f"The whole window {why}; this is the middle of it, 1/{round(1 / before)} of its sides."
        )

    def _exactly(self, place: int, anchors: list[Picked], window: Window, tell: Tell) -> DrawnPlane:
        """All of a window, refused where it has too many regions."""
        subject = self._subjects[place]

        def watch(share: float, cells: int) -> None:
            tell(share, f"{cells:,} cells so far")
            if cells > self._most:
                raise TooMany(
                    f"there are more than {self._most:,} regions here (the work was {share:.0%} done), too many to"
                    " keep; look at a smaller part of the plane"
                )

        options: dict[str, Any] = {"extent": window, "output": subject.output, "memory": MEMORY}
        if anchors:
            options["anchors"] = subject.like(torch.stack([picked.tensor for picked in anchors]))
        else:
            field = coordinate_plane(subject.test)
            options |= {"origin": field.origin, "basis": field.basis}
        found = plane(subject.net, **options, progress=watch)
        tell(1.0, f"looking for {'level sets' if subject.meaning.valued else 'the decision boundary'}")
        divided = DrawnPlane.of(found, window)
        watch(1.0, divided.cells.regions)
        return divided

    def _job(self, key: str) -> Job[DrawnPlane]:
        job = self._desk.find(key)
        if job is None:
            raise BadInput("plane: it is not kept any more; divide it again")
        return job

    def _done(self, key: str) -> DrawnPlane:
        job = self._job(key)
        if job.result is None:
            raise BadInput(f"plane: it is {job.state}; wait until it is done")
        return job.result

    def _sides(self, shown: DrawnPlane, cell: int) -> list[dict[str, Any]]:
        """What each side of a cell is: the unit that changes there, and the cell across."""
        found = shown.cells
        shapes = {record.name: record.units for record in found.frame.net.operators}
        start, end = found.cells.starts[cell : cell + 2]
        sides = []
        for edge in found.cells.sides[start:end].tolist():
            left, right = found.cells.edge_cells[edge].tolist()
            across = right if left == cell else left
            operator = int(found.cells.operator[edge])
            name = found.operators[operator] if operator >= 0 else None
            unit = int(found.cells.unit[edge])
            ends = found.cells.points[found.cells.ends[edge]]
            sides.append(
                {
                    "operator": name,
                    "unit": [int(part) for part in np.unravel_index(unit, shapes[name])] if name in shapes else None,
                    "ends": ends.tolist(),
                    "across": across if across >= 0 else None,
                    "group": int(shown.groups[across]) if across >= 0 else None,
                }
            )
        return sides


def _tell_part(tell: Tell, turn: int, parts: tuple[float, ...], share: float, words: str) -> None:
    where = "" if parts[turn] == 1 else f", in the middle 1/{round(1 / parts[turn])} of the sides"
    tell((turn + share) / len(parts), f"{words}{where}")


def _middle(window: Window, part: float) -> Window:
    left, right, bottom, top = window
    x, y = (right - left) * (1 - part) / 2, (top - bottom) * (1 - part) / 2
    return left + x, right - x, bottom + y, top - y


def _status(job: Job[DrawnPlane]) -> dict[str, Any]:
    status = job.status
    return status | job.result.summary() if status["state"] != "running" and job.result is not None else status


def _coordinates(anchors: Tensor) -> Tensor:
    """Where three inputs lie in their plane (3, 2): the first at 0, the second on the first axis."""
    first, second = (anchors[1:] - anchors[0]).flatten(1)
    along = first.norm()
    if along == 0:
        raise BadInput("images: two of them are equal, so that they span no plane; choose another one")
    forward = (second @ first) / along
    across = (second - first * (forward / along)).norm()
    return torch.stack([torch.zeros(2), torch.tensor([along, 0.0]), torch.stack([forward, across])]).double()


def _codes(found: PlanePartition, cell: int) -> list[dict[str, Any]]:
    """How many units of each operator have each code all over a cell; not counted where the codes are many."""
    rows = []
    for name, codes in found.codes([cell]).items():
        row = {"operator": name, "units": codes.unit_count, "pieces": codes.pieces, "counts": None}
        if codes.pieces <= MOST_PIECES:
            row["counts"] = codes.unpack().flatten().long().bincount(minlength=codes.pieces).tolist()
        rows.append(row)
    return rows
