"""A graph in float64 followed along a line: which values are kept, and how one step is taken."""

from itertools import accumulate
from math import inf, prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import (
    BatchAxis,
    Contest,
    Dependence,
    Graph,
    Knots,
    LocalMap,
    Step,
    Value,
    as_rows,
    as_tuple,
    fastest_layout,
    in_float32,
)
from maxaffine._partition.lines.bending import DENSE, Bend, Picks, bent_course, by_columns, full_matrix
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.strip import AnyCourse, AnyStrip, Bow, Course, JumpStrip, Strip, magnitude, mixed
from maxaffine._partition.lines.watch import ContestWatch, KnotWatch, Watch

Bends = dict[int, list[tuple[Bend, Course]]]  # by number of the output
SINGLE = 2.0**24  # how finely single precision tells numbers apart, relative to them
TOGETHER = 8  # vertices whose deviations go through a step at a time, so that they stay in the cache
SHORT = 4  # pieces from which on a stretch is worth the two runs at its ends,
WORK = 2**23  # if so many numbers are found on it
SMALL = 1024  # units of the widest operator up to which telling apart those that bend costs more than it saves


class Track:
    """A graph in float64 followed along a line: which values are kept, and how one step is taken."""

    def __init__(self, graph: Graph, rounding: float = 0.0) -> None:
        self.graph = graph
        # By how much a unit may bend, relative to the largest of its value, for single precision to round it by less
        # than is allowed.
        self.little = rounding * SINGLE
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
        self.several = {p for p, step in enumerate(graph.steps) if step.piecewise}
        self.lean = any(prod(values[graph.steps[place].result].units) > SMALL for place in self.several)
        sizes = [sum(prod(values[n].units) for n in step.outputs if n in values) for step in graph.steps]
        self.rest = [*accumulate(reversed(sizes))][::-1]  # by place, numbers that it and all later steps find
        # What steps have said of themselves, by place.
        self._picks: dict[tuple[int, int], list[Picks | None] | None] = {}
        self._entries: dict[int, Tensor] = {}
        self._matrices: dict[int, tuple[Tensor, Tensor] | None] = {}
        self._held: dict[int, dict[int, Any]] = {}
        self._locals: dict[int, LocalMap] = {}
        self._singles: dict[int, LocalMap | None] = {}
        # What came out of a step at the right end of the last stretch, and where that is: the left end of the next.
        self._right: dict[int, tuple[Tensor, dict[int, Tensor]]] = {}

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
        if not isinstance(boundaries, Contest) or not boundaries.picks:
            return None
        if isinstance(course, Bow) or course.bent is None:
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
            if course is None or isinstance(course, Bow) or course.bent is None or not len(course.bent):
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
            if place not in self._locals:
                self._locals[place] = self._local(step, strip, 2)
            bend = by_columns(self._locals[place], step.operator.gain, bent, count, prod(values[step.result].units))
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

    def suits(self, place: int, strip: AnyStrip, watch: Watch | None) -> float:
        """How many pieces a stretch may have so that a step can be taken in single precision; any, if it never can."""
        excess = self._excess(place, strip) if self._single_of_use(place, watch) else inf
        if excess == inf or not isinstance(strip, Strip):
            return inf
        # A stretch of half the length has half the changes, each of which bends it half as far: at random signs, they
        # add up to a share that grows like the power 3/2 of the length.
        pieces = strip.pieces * min(1.0, excess ** (-2 / 3) if excess else 1.0)
        course = strip.values[self.graph.steps[place].inputs[0]]
        if isinstance(watch, KnotWatch):
            # Where a unit passes a knot, from a to b of it, and changes its slope by one, it bends by a b / (a + b).
            low, high = as_rows(course.ends)[:, watch.units, None] - strip.t.new_tensor(watch.knots.knots)
            bent = torch.where(low * high < 0, 1 / (1 / low.abs() + 1 / high.abs()), 0.0)
            most = magnitude(bent) / (self.little * course.size) if course.size else 0.0
            pieces = min(pieces, strip.pieces / max(most, 1.0))
        return pieces if max(SHORT, WORK / self.rest[place]) <= pieces < strip.pieces else inf

    def _single_of_use(self, place: int, watch: Watch | None) -> bool:
        """Whether a step can be taken in single precision: one that is affine, or compares entries with knots."""
        return isinstance(watch, KnotWatch) or place not in self.several

    def _excess(self, place: int, strip: AnyStrip) -> float:
        """How many times too far the inputs of a step bend for single precision; infinite if not known by that."""
        if not isinstance(strip, Strip) or not self.little or not self.lean:
            return inf
        found = 0.0
        for number in self.graph.steps[place].inputs:
            course = strip.values.get(number)
            if course is None:
                continue
            if course.ends.dtype != torch.float64 or (isinstance(course, Course) and course.bent is None):
                return inf
            # How far what an affine step made bends is seen by the next operator with pieces, which looks at all of it.
            if course.size and (isinstance(course, Course) or place in self.several):
                found = max(found, course.bend(strip.share) / (self.little * course.size))
        return found

    def bows(self, place: int, strip: Strip) -> dict[int, Bow] | None:
        """The inputs of a step by their deviations in single precision; None where that does not suffice."""
        if self._excess(place, strip) > 1:
            return None
        return {n: strip.values[n].bow(strip.share) for n in self.graph.steps[place].inputs if n in strip.values}

    def _bent_little(self, course: Course, share: Tensor) -> AnyCourse:
        """A value by its deviations, if single precision suffices for them."""
        little = course.ends.dtype == torch.float64 and course.bend(share) <= self.little * course.size
        return course.bow(share) if little else course

    def _ends(self, place: int, strip: Strip) -> dict[int, Tensor]:
        """What comes out of an affine step at both ends of a stretch."""
        step = self.graph.steps[place]
        ends = {n: strip.values[n].ends for n in step.inputs if n in strip.values}
        # Stretches follow one another, so that the left end of this one has mostly been run already.
        known = place in self._right and bool(self._right[place][0] == strip.t[0])
        rows = 1 if known else 2
        front = self._fronts(step, step.operator(*self._filled(step, {n: e[-rows:] for n, e in ends.items()}, rows)))
        if known:
            front = {n: torch.cat([self._right[place][1][n], item]) for n, item in front.items()}
        self._right[place] = strip.t[-1], {n: item[1:].clone() for n, item in front.items()}
        return front

    def _pushed(self, place: int, strip: Strip, bows: dict[int, Bow]) -> dict[int, Bow] | None:
        """The outputs of an affine step: of the ends in float64, of the deviations in between in single precision."""
        step = self.graph.steps[place]
        if place not in self._singles:
            self._singles[place] = self._single(step, strip)
        local = self._singles[place]
        if local is None:
            return None
        found = {}
        # At both ends nothing deviates; in between every row is written below.
        for number, ends in self._ends(place, strip).items():
            like = ends[:1].float().expand(strip.rows, *ends.shape[1:])
            found[number] = Bow(ends, torch.empty_like(like, memory_format=fastest_layout(like)))
            found[number].deviation[:: strip.rows - 1] = 0
        at = [step.inputs[position] for position in step.active]
        zeros = {n: strip.t.new_zeros(TOGETHER, *self.graph.values[n].units).float() for n in at if n not in bows}
        for start in range(1, strip.rows - 1, TOGETHER):
            # The last ones together with some that are done already, where there are so many.
            inside = slice(max(1, min(start, strip.rows - 1 - TOGETHER)), min(start + TOGETHER, strip.rows - 1))
            count = inside.stop - inside.start
            rows = [self.placed(n, _padded(bows[n].deviation[inside], TOGETHER) if n in bows else zeros[n]) for n in at]
            for number, item in zip(step.outputs, local.mv(rows), strict=False):
                if number is not None and item is not None:
                    found[number].deviation[inside] = self.axis(number).to_front(item)[:count]
        return found

    def _single(self, step: Step, strip: Strip) -> LocalMap | None:
        """An affine step's map in single precision, for as many samples as go together; None of what it is not."""
        at = [step.inputs[position] for position in step.active]
        if not at or not {n for n in step.inputs if n in strip.values} <= set(at):
            return None
        operator = in_float32(step.operator)
        zeros = {n: strip.t.new_zeros(TOGETHER, *self.graph.values[n].units) for n in step.inputs if n in strip.values}
        inputs = [_single(item) for item in self._filled(step, zeros, TOGETHER)]
        return operator.local(inputs, operator(*inputs))

    def _bowed(self, place: int, bow: Bow, watch: KnotWatch, share: Tensor, limit: float) -> Bow | None:
        """The output of a step that compares entries with knots, by its deviations; None if it bends too far."""
        step = self.graph.steps[place]
        number, result, units = step.inputs[0], step.result, watch.units
        source = _on_knots(bow.ends, watch.knots.knots, limit)
        (ends,) = self._fronts(step, step.operator(*self._filled(step, {number: source}, 2))).values()
        # A unit that is not watched stays on one piece, so that its deviation is multiplied by the slope there.
        local = step.operator.local(self._filled(step, {number: source[:1]}, 1), self.placed(result, ends[:1]))
        (slope, *_) = local.mv([self.placed(number, torch.ones_like(source[:1]))])
        function = step.operator.restricted(units, self.graph.values[number].units)
        if function is None or slope is None:
            raise TypeError(f"{step.records[0].name}: it acts entry by entry no longer")
        slope = self.axis(result).to_front(slope).to(bow.deviation, memory_format=fastest_layout(bow.deviation))
        # Units that are watched are computed in float64, where the straight line and what they deviate add up.
        rows = function(_on_knots(bow.at(units, share), watch.knots.knots, limit))
        bent = rows - mixed(rows[[0, -1]], share)
        if max(magnitude(bent), magnitude(slope) * bow.bend(share)) > self.little * bow.size:
            return None
        ends = ends.contiguous() if ends.data_ptr() != bow.ends.data_ptr() else ends.clone()
        ends.view(2, ends[0].numel())[:, units] = rows[[0, -1]]
        # A value that no later step reads may be overwritten, which saves a pass over memory.
        alone = self.last_use[number] == place
        deviation = bow.deviation.mul_(slope) if alone else bow.deviation * slope
        deviation[bow.entries(units)] = bent.float()
        return Bow(ends, deviation)

    def take(
        self, place: int, strip: AnyStrip, watch: Watch | None, bends: Bends | None, limit: float, full: bool
    ) -> AnyStrip:
        """The values after one step; those that no later step reads are dropped."""
        step = self.graph.steps[place]
        if isinstance(strip, JumpStrip):
            return self._jumped(place, strip)
        bows = self.bows(place, strip) if full and self._single_of_use(place, watch) else None
        pushed = None
        if bows is not None and isinstance(watch, KnotWatch):
            bowed = self._bowed(place, bows[step.inputs[0]], watch, strip.share, limit)
            pushed = None if bowed is None else {step.result: bowed}
        elif bows is not None:
            pushed = self._pushed(place, strip, bows)
        if pushed is not None:
            found = pushed
        elif isinstance(watch, KnotWatch):
            found = {step.result: self._entrywise(step, strip, watch, limit)}
        elif isinstance(watch, ContestWatch):
            found = {step.result: self._contested(step, strip, watch)}
        elif bends is not None:
            found = {n: bent_course(item, bends[n], strip) for n, item in self._ends(place, strip).items()}
        else:
            found = {n: Course.full(item) for n, item in self._run(place, strip, limit).items()}
            if any(isinstance(strip.values.get(number), Bow) for number in step.inputs):
                found = {n: self._bent_little(course, strip.share) for n, course in found.items()}
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
        course = course.opened(share) if isinstance(course, Bow) or crowded(watch, course) else course
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


def crowded(watch: Watch, course: AnyCourse) -> bool:
    """Whether so many units bend, or are watched, that all are better kept at every vertex."""
    return course.bent is None or (len(watch.units) + len(course.bent)) * DENSE > course.ends[0].numel()


def _single(item: Any) -> Any:
    """A tensor of numbers in single precision."""
    return item.float() if isinstance(item, Tensor) and item.is_floating_point() else item


def _padded(rows: Tensor, count: int) -> Tensor:
    """So many rows, zeros after those that are given."""
    return rows if len(rows) == count else torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])


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
