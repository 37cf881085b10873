"""A graph in float64 followed along a line: which values are kept, and how one step is taken."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Contest, Dependence, Graph, Knots, Step, Value, as_rows, as_tuple
from maxaffine._partition.lines.bending import DENSE, Bend, Picks, bent_course, by_columns, full_matrix
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.strip import AnyStrip, Course, JumpStrip, Strip, magnitude
from maxaffine._partition.lines.watch import ContestWatch, KnotWatch, Watch

Bends = dict[int, list[tuple[Bend, Course]]]  # by number of the output
SMALL = 1024  # units of the widest operator up to which telling apart those that bend costs more than it saves


class Track:
    """A graph in float64 followed along a line: which values are kept, and how one step is taken."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # A value is held until the last step that reads it; those that move with no input, not at all.
        self.last_use = {number: place for place, step in enumerate(graph.steps) for number in step.inputs}
        self.last_use |= dict.fromkeys(graph.outputs, len(graph.steps))
        values = graph.values
        dependences = ([values[n].dependence for n in step.outputs if n is not None] for step in graph.steps)
        self.dependent = [any(item is not Dependence.CONSTANT for item in items) for items in dependences]  # by place
        self.held_steps = [step for step, moves in zip(graph.steps, self.dependent, strict=True) if not moves]
        read = {n for step in graph.steps for n in step.inputs} | set(graph.outputs)
        # A step may jump itself, or read what is constant in each region, as an index is, and so jumps between them.
        jumps = any(not record.continuous for step in graph.steps for record in step.records)
        regions = any(values[number].dependence is Dependence.REGION for number in read - set(graph.inputs))
        self.continuous = not jumps and not regions
        several = [step for step in graph.steps if step.records and step.records[0].pieces > 1]
        self.lean = any(prod(values[step.result].units) > SMALL for step in several)
        # What steps have said of themselves, by place.
        self._picks: dict[tuple[int, int], list[Picks | None] | None] = {}
        self._entries: dict[int, Tensor] = {}
        self._matrices: dict[int, tuple[Tensor, Tensor] | None] = {}
        self._held: dict[int, dict[int, Any]] = {}

    def start(self, segment: Segment) -> AnyStrip:
        """The strip of the network's inputs: at the ends, or at the middle with their slopes."""
        t = torch.tensor([0.0, 1.0], dtype=torch.float64, device=segment.start[0].device)
        points = segment.points(t if self.continuous else t.mean(0, keepdim=True))
        values = {n: self.axis(n).to_front(x) for n, x in zip(self.graph.inputs, points, strict=True)}
        if self.continuous and not self.lean:
            return Strip(t, {n: Course.full(ends) for n, ends in values.items()})
        if self.continuous:
            none = torch.empty(0, dtype=torch.long, device=t.device)
            return Strip(t, {n: Course(ends, none, ends.new_empty(len(t), 0)) for n, ends in values.items()})
        moving = zip(self.graph.inputs, segment.direction(1), strict=True)
        return JumpStrip(t, values, {n: self.axis(n).to_front(x) for n, x in moving if x.is_floating_point()})

    def axis(self, number: int) -> BatchAxis:
        """Where a value keeps its samples."""
        return self.graph.values[number].batch or BatchAxis()

    def placed(self, number: int, front: Tensor) -> Tensor:
        """A value (rows, *units) in its own layout."""
        value = self.graph.values[number]
        return self.axis(number).from_front(front, _layout(value, front.shape[0]))

    def held(self, rows: int) -> dict[int, Any]:
        """Values that depend on the number of samples alone."""
        if not self.held_steps:
            return {}
        if rows in self._held:
            return self._held[rows]
        found: dict[int, Any] = {}
        for step in self.held_steps:
            for number in step.inputs:
                value = self.graph.values[number]
                if number not in found:  # only its size is read
                    found[number] = torch.zeros((), dtype=value.dtype).expand(_layout(value, rows))
            step.run(found)
        if len(self._held) > 4:
            self._held.clear()
        self._held[rows] = found
        return found

    def arguments(self, step: Step, strip: AnyStrip, which: int | None = None) -> list[Any]:
        """A step's inputs in their own layout: its rows, or a side of every piece (see :meth:`AnyStrip.side`)."""
        moving = [number for number in step.inputs if self.moves(number, strip)]
        fronts = {number: strip.front(number) if which is None else strip.side(number, which) for number in moving}
        return self._filled(step, fronts, strip.rows if which is None else strip.pieces)

    def moves(self, number: int, strip: AnyStrip) -> bool:
        """Whether a value is among those of a strip."""
        return number in strip.values

    def _filled(self, step: Step, fronts: dict[int, Tensor], rows: int) -> list[Any]:
        held = self.held(rows)
        return [self.placed(number, fronts[number]) if number in fronts else held[number] for number in step.inputs]

    def scale(self, step: Step, strip: AnyStrip) -> float:
        """The largest finite magnitude among a step's inputs, which cutting pieces does not change."""
        if isinstance(strip, JumpStrip):
            return max(map(magnitude, (item for side in (-1, 1) for item in self.arguments(step, strip, side))))
        held = self.held(strip.rows)
        return max(strip.values[n].size if n in strip.values else magnitude(held[n]) for n in step.inputs)

    def watch(self, place: int, strip: AnyStrip, limit: float) -> Watch | None:
        """The units of a step that may change their piece, where they can be told; None: any may."""
        if not self.lean:
            return None
        step = self.graph.steps[place]
        used = [number for number in step.outputs if number is not None]
        plain = used == [step.outputs[0]] and self._plain(step)
        if not isinstance(strip, Strip) or not plain or sum(n in strip.values for n in step.inputs) != 1:
            return None
        if step.inputs[0] not in strip.values:
            return None
        course, boundaries = strip.values[step.inputs[0]], step.operator.boundaries()
        units = self.graph.values[step.inputs[0]].units
        if isinstance(boundaries, Knots):
            known = step.operator.restricted(torch.zeros(0, dtype=torch.long), units) is not None
            return KnotWatch.of(boundaries, course, limit) if known else None
        if not isinstance(boundaries, Contest) or not boundaries.picks or course.bent is None:
            return None
        if place not in self._entries:
            # What each unit picks from, by giving every entry its number.
            numbers = torch.arange(prod(units), dtype=torch.float64, device=strip.t.device).view(1, *units)
            scores = boundaries.scores(numbers)[0].flatten(0, -2)
            self._entries[place] = (boundaries.factor * scores).nan_to_num(posinf=-1, neginf=-1).long()
        found = ContestWatch.of(boundaries, course, self._entries[place])
        return None if crowded(found, course) else found

    def _plain(self, step: Step) -> bool:
        """Whether samples lie along the first axis of all that moves."""
        moving = [n for n in (*step.inputs, *step.outputs) if n is not None and n not in self.held(1)]
        return all(self.axis(number) == BatchAxis() for number in moving)

    def bends(self, place: int, strip: AnyStrip) -> Bends | None:
        """How an affine step's inputs bend its outputs; None where it has to be run at every vertex."""
        step = self.graph.steps[place]
        moving = [number for number in step.inputs if self.moves(number, strip)]
        at = [step.inputs[position] for position in step.active]
        if not isinstance(strip, Strip) or not set(moving) <= set(at) or not at:
            return None
        if any(strip.values[number].bent is None for number in moving):
            return None
        found: Bends = {number: [] for number in step.outputs if number is not None}
        for position, number in enumerate(at):
            course = strip.values.get(number)
            if course is None or course.bent is None or not len(course.bent):
                continue
            bends = self._bends_of(place, position, course.bent, strip)
            if bends is None:
                return None
            for output, bend in bends.items():
                found[output].append((bend, course))
        return found

    def _bends_of(self, place: int, position: int, bent: Tensor, strip: Strip) -> dict[int, Bend] | None:
        """What one input's bent units bend of each output that is used."""
        step = self.graph.steps[place]
        values, number = self.graph.values, step.inputs[step.active[position]]
        count = prod(values[number].units)
        if len(step.active) == 1 and self._plain(step) and len(step.outputs) == 1:
            local = self._local(step, strip, 2)
            bend = by_columns(local, step.operator.gain, bent, count, prod(values[step.result].units))
            if bend is not None:
                return {step.result: bend}
        picks = self._recognized(place, position, strip)
        if picks is None:
            return None
        pairs = zip(step.outputs, picks, strict=False)
        return {n: item.bend(bent, count) for n, item in pairs if n is not None and item is not None}

    def _local(self, step: Step, strip: Strip, rows: int) -> Any:
        """An affine step's map, which is the same everywhere, for so many samples."""
        fronts = {n: v.ends.new_zeros(rows, *v.ends.shape[1:]) for n, v in strip.values.items() if n in step.inputs}
        inputs = self._filled(step, fronts, rows)
        return step.operator.local(inputs, step.operator(*inputs))

    def _recognized(self, place: int, position: int, strip: Strip) -> list[Picks | None] | None:
        """Per output, the entries of one active input that a step moves about; None if it does more with them."""
        if (place, position) in self._picks:
            return self._picks[place, position]
        step = self.graph.steps[place]
        at = [step.inputs[p] for p in step.active]
        rows = [strip.t.new_zeros(3, *self.graph.values[n].units) for n in at]
        probes = Picks.probes(rows[position][0].numel(), strip.t.device)
        rows[position] = probes.view_as(rows[position])
        made = self._local(step, strip, 3).mv([self.placed(n, row) for n, row in zip(at, rows, strict=True)])
        found: list[Picks | None] = []
        known = True
        for number, item in zip(step.outputs, made, strict=False):
            if number is None or item is None:
                found.append(None)
                continue
            picks = Picks.recognized(as_rows(self.axis(number).to_front(item)), probes[2])
            found.append(picks)
            known = known and picks is not None
        self._picks[place, position] = found if known else None
        return self._picks[place, position]

    def opens(self, place: int, strip: AnyStrip, watch: Watch | None, bends: Bends | None) -> bool:
        """Whether a step needs, or leaves, a value with all of its units at every vertex."""
        if watch is not None and isinstance(strip, Strip):
            return crowded(watch, strip.values[self.graph.steps[place].inputs[0]])
        if bends is None:
            return True
        count = {n: sum(len(bend.units) for bend, _ in items) for n, items in bends.items()}
        return any(found * DENSE > prod(self.graph.values[n].units) for n, found in count.items())

    def take(self, place: int, strip: AnyStrip, watch: Watch | None, bends: Bends | None, limit: float) -> AnyStrip:
        """The values after one step; those that no later step reads are dropped."""
        step = self.graph.steps[place]
        if isinstance(strip, JumpStrip):
            return self._jumped(place, strip)
        if isinstance(watch, KnotWatch):
            found = {step.result: self._entrywise(step, strip, watch, limit)}
        elif isinstance(watch, ContestWatch):
            found = {step.result: self._contested(step, strip, watch)}
        elif bends is not None:
            fronts = {n: strip.values[n].ends for n in step.inputs if n in strip.values}
            ends = self._fronts(step, step.operator(*self._filled(step, fronts, 2)))
            found = {n: bent_course(item, bends[n], strip) for n, item in ends.items()}
        else:
            found = {n: Course.full(item) for n, item in self._run(place, strip, limit).items()}
        return Strip(strip.t, self._kept(place, strip.values | found))

    def _fronts(self, step: Step, value: Any) -> dict[int, Tensor]:
        """The outputs of a step that are used, samples first."""
        pairs = zip(step.outputs, as_tuple(value), strict=False)
        return {number: self.axis(number).to_front(item) for number, item in pairs if number is not None}

    def _kept(self, place: int, values: dict[int, Any]) -> dict[int, Any]:
        return {number: value for number, value in values.items() if self.last_use.get(number, -1) > place}

    def _run(self, place: int, strip: Strip, limit: float) -> dict[int, Tensor]:
        """A step at every vertex."""
        step = self.graph.steps[place]
        inputs = self.arguments(step, strip)
        boundaries = step.operator.boundaries()
        if isinstance(boundaries, Knots):
            inputs = [_on_knots(inputs[0], boundaries.knots, limit), *inputs[1:]]
        wanted = self.lean and step.operator.gain > 1 and len(inputs) == 1 and boundaries is None
        product = self._matrix(place, strip) if wanted else None
        if product is None:
            return self._fronts(step, step.operator(*inputs))
        matrix, offset = product
        blocks = inputs[0].reshape(strip.rows, *matrix.shape[:2]).transpose(0, 1) @ matrix
        rows = blocks.transpose(0, 1).reshape(strip.rows, matrix.shape[0] * matrix.shape[2]) + offset
        return {step.result: rows.view(strip.rows, *self.graph.values[step.result].units)}

    def _matrix(self, place: int, strip: Strip) -> tuple[Tensor, Tensor] | None:
        """An affine step as a matrix and an offset, where that is faster than the step itself."""
        if place not in self._matrices:
            step, self._matrices[place] = self.graph.steps[place], None
            count, outputs = (prod(self.graph.values[n].units) for n in (step.inputs[0], step.result))
            if step.active == (0,) and len(step.outputs) == 1 and self._plain(step):
                matrix = full_matrix(self._local(step, strip, 2), step.operator, count, outputs, strip.t.device)
                if matrix is not None:
                    zero = torch.zeros_like(strip.values[step.inputs[0]].ends[:1])
                    self._matrices[place] = matrix, as_rows(as_tuple(step.operator(zero))[0])
        return self._matrices[place]

    def _contested(self, step: Step, strip: Strip, watch: ContestWatch) -> Course:
        """The output of a step whose units pick entries: of those that are not watched, the ends say all."""
        course = strip.values[step.inputs[0]]
        (ends,) = self._fronts(step, step.operator(*self._filled(step, {step.inputs[0]: course.ends}, 2))).values()
        rows = watch.contest.factor * watch.read(course, strip.share).amax(-1)
        return Course(ends, watch.units, rows).trimmed(strip.share)

    def _entrywise(self, step: Step, strip: Strip, watch: KnotWatch, limit: float) -> Course:
        """The output of a step that compares entries with knots: it bends where its input or its piece does."""
        # Values at vertices that are within the limit of a knot are put on it: what is zero stays exactly zero, so
        # that ties after it (in a max-pooling of relus) remain ties.
        number, share = step.inputs[0], strip.share
        course = strip.values[number]
        course = course.opened(share) if crowded(watch, course) else course
        knots = watch.knots.knots
        units = watch.units if course.bent is None else torch.cat([watch.units, course.bent]).unique()
        function = step.operator.restricted(units, self.graph.values[number].units)
        if function is None:
            raise TypeError(f"{step.records[0].name}: it acts entry by entry no longer")
        rows = function(_on_knots(course.at(units, share), knots, limit))
        source = course.rows if course.bent is None else _on_knots(course.ends, knots, limit)
        (front,) = self._fronts(step, step.operator(*self._filled(step, {number: source}, len(source)))).values()
        front = front.clone() if front.data_ptr() == source.data_ptr() else front.contiguous()
        flat = front.view(len(front), front[0].numel())
        if course.bent is None:
            flat[:, units] = rows
            return Course.full(front)
        flat[:, units] = rows[[0, -1]]
        return Course(front, units, rows).trimmed(share)

    def _jumped(self, place: int, strip: JumpStrip) -> JumpStrip:
        """A step at the middles, and of their slopes."""
        step = self.graph.steps[place]
        inputs = self.arguments(step, strip)
        value = step.operator(*inputs)
        values, slopes = strip.values | self._fronts(step, value), dict(strip.slopes)
        if step.active:
            # On its piece the operator is affine, so its map takes slopes along the line to slopes along the line.
            at = [step.inputs[position] for position in step.active]
            known = strip.slopes
            tangents = [self.placed(n, known[n] if n in known else torch.zeros_like(strip.values[n])) for n in at]
            moved = step.operator.local(inputs, value).mv(tangents)
            for number, item in zip(step.outputs, moved, strict=False):
                if number is not None and item is not None:
                    slopes[number] = self.axis(number).to_front(item)
        return JumpStrip(strip.t, self._kept(place, values), self._kept(place, slopes))


def crowded(watch: Watch, course: Course) -> bool:
    """Whether so many units bend, or are watched, that all are better kept at every vertex."""
    return course.bent is None or (len(watch.units) + len(course.bent)) * DENSE > course.ends[0].numel()


def _on_knots(x: Tensor, knots: tuple[float, ...], limit: float) -> Tensor:
    """Entries with those within a limit of a knot put on it."""
    for knot in knots:  # of zero, which nearly all knots are, hardshrink does it in one pass
        near = (x - knot).abs() <= limit if knot else None
        x = torch.nn.functional.hardshrink(x, limit) if near is None else torch.where(near, knot, x)
    return x


def _layout(value: Value, rows: int) -> list[int]:
    """The shape of a value with so many samples, in its own layout."""
    axis = value.batch or BatchAxis()
    folded = (axis.outer > 1) + (axis.inner > 1)
    before, after = value.units[: axis.dim], value.units[axis.dim + folded :]
    return [*before, axis.outer * rows * axis.inner, *after]
