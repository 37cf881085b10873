"""A network as a program of rectifiers: every value is affine in the inputs and in rectified values before it.

Every continuous piecewise-affine unit is such a sum. One that compares is the affine map of any piece plus, for every
comparison d, a multiple of max(d, 0): where d passes zero the map may change by a multiple of d alone, or it would
jump. One that selects the largest entry is a knockout of max(a, b) = b + max(a - b, 0), and one that sorts repeats it
with the losers, min(a, b) = a - max(a - b, 0). So bounds, linear programs and branching know one kind of unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise, permutations
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._graph import BatchAxis, Comparisons, Contest, Graph, Knots, Linearization, Order, Step
from maxaffine._partition.decisions.rows import Program, Rows, Stage, sparse
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.lines.track import Track

AT_ONCE = 2**24  # numbers that a step's inputs may take together while its slopes are read
SIZES = (1.0, 1e2, 1e4)  # of the inputs at which a unit's pieces are looked up
AGREE = 1e-9  # relative, between the program and the network that it was made of
SAMPLES = 32

Values = dict[int, Any]  # of the graph, by number


def program_of(net: SplineNetwork, targets: Sequence[int], x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Program:
    """The program of some values of a network in float64, compared with it between two corners of inputs and at x."""
    writer = _Writer(net, targets)
    found = writer.program()
    random = np.random.default_rng(0)
    share = random.random((SAMPLES, 1)) ** 2 * random.random((SAMPLES, 1))
    writer.compare(found, x + share * (low + (high - low) * random.random((SAMPLES, len(x))) - x))
    return found.trimmed()


class _Writer:
    """Writes the program of a graph, a step with pieces at a time."""

    def __init__(self, net: SplineNetwork, targets: Sequence[int]) -> None:
        self.graph = net.graph.part(targets)
        self.targets, self.device = targets, net.inputs.device
        self.makers = {number: step for step in self.graph.steps for number in step.outputs if number is not None}
        self.track = Track(self.graph)
        self.stages: list[Stage] = []
        self.width = self.features = sum(self._widths(self.graph.inputs))
        # What is written: the inputs, and what steps with pieces make, by number of the value.
        self.written: dict[int, Rows] = {}
        start = 0
        for number, width in zip(self.graph.inputs, self._widths(self.graph.inputs), strict=True):
            self.written[number] = Rows.variables(start, width)
            start += width

    def program(self) -> Program:
        """All steps in order."""
        for step in self.graph.steps:
            if any(not record.continuous for record in step.records):
                reason = "its value jumps where its code changes, so that a nearest place need not exist"
                raise refusal(step, reason, "write it with continuous operators: relu, clamp, maximum, abs, max_pool")
            if step.active and step.piecewise:
                boundaries = known_boundaries(step)
                compares = isinstance(boundaries, Comparisons)
                rows = self._compared(step, boundaries) if compares else self._selected(step, boundaries)
                self.written[step.result] = self._named(rows)
        outputs = self._affine(self.targets, lambda values: [self._rows(n, values[n]) for n in self.targets])
        return Program(self.features, tuple(self.stages), Rows.stack(outputs))

    def compare(self, program: Program, points: np.ndarray) -> None:
        """Refuse the first operator whose values the program does not give."""
        numbers, values = [*self.written, *self.targets], program.run(points).T
        # What variables are made of: where that cancels, as of a soft shrinkage near zero, it is what is rounded.
        sizes = np.abs(values)
        made = [stage.sizes @ sizes[: stage.width] + np.abs(stage.rows.offsets)[:, None] for stage in program.stages]
        terms = np.concatenate([sizes[: self.features], *made])
        ends = np.cumsum([0, *self._widths(self.targets)])
        outputs = [program.outputs[low:high] for low, high in pairwise(ends)]
        rows = [*self.written.values(), *outputs]
        known = self.graph.part(numbers).run(self._placed(self.graph.inputs, torch.as_tensor(points)))
        for number, row, expected in zip(numbers, rows, known, strict=True):
            own = (row.wide(program.size) @ values).T + row.offsets
            like = self._rows(number, expected).cpu().numpy()
            size = max(
                (abs(row.wide(program.size)) @ terms).max(initial=0), np.abs(like[np.isfinite(like)]).max(initial=0)
            )
            if not np.allclose(own, like, AGREE, AGREE * max(size, 1e-300)):
                step = self.makers[number]
                reason = "its boundaries and its local maps do not give its values"
                raise refusal(step, reason, "compare it with itself: operators.check_rule")

    # --- affine functions of values -----------------------------------------------------------------------------

    def _affine(self, numbers: Sequence[int], function: Callable[[Values], list[Tensor]]) -> list[Rows]:
        """Functions of values, affine up to what is written: from (rows, *value) to lists of (rows, K), as Rows."""
        sources = self._sources(numbers)
        total, part = sum(self._widths(sources)), self.graph.part(list(numbers), sources)
        largest = max(part.largest_value(), *self._widths(numbers))
        columns = []
        offsets: list[np.ndarray] = []
        for at in slices(total, max(1, AT_ONCE // (8 * largest))):
            rows = torch.eye(total, dtype=torch.float64, device=self.device)[at]
            still = self._placed(sources, torch.zeros_like(rows))
            local, held = Linearization(part, still), self.track.held(len(rows))

            def at_values(items: Sequence[Tensor], held: Values = held) -> list[np.ndarray]:
                return [item.cpu().numpy() for item in function(held | dict(zip(numbers, items, strict=True)))]

            # Slopes are read from zero on, without the rounding of what is added to them.
            moved = local.push(self._placed(sources, rows), offset=False)
            origin = at_values([torch.zeros_like(item) for item in moved])
            pairs = zip(at_values(moved), origin, strict=True)
            with np.errstate(invalid="ignore"):  # what is missing from a window is infinite in both
                columns.append([sparse().csr_array(np.nan_to_num(a - b)) for a, b in pairs])
            offsets = offsets or [item[0].copy() for item in at_values(local.push(still, offset=True))]
        written = Rows.stack([self.written[number] for number in sources])
        slopes = [sparse().vstack(parts).T.tocsr() for parts in zip(*columns, strict=True)]
        return [Rows(item, offset).of(written) for item, offset in zip(slopes, offsets, strict=True)]

    def _sources(self, numbers: Sequence[int]) -> list[int]:
        """The written values that some values follow from by affine steps alone."""
        found, asked = set(), list(numbers)
        while asked:
            number = asked.pop()
            if number in self.written:
                found.add(number)
            elif number in self.makers:
                step = self.makers[number]
                asked += [step.inputs[place] for place in step.active]
        return sorted(found)

    def _widths(self, numbers: Sequence[int]) -> list[int]:
        return [prod(self.graph.values[number].units) for number in numbers]

    def _placed(self, numbers: Sequence[int], rows: Tensor) -> list[Tensor]:
        """Rows (rows, all entries of some values) as these values."""
        parts = rows.to(self.device).split(self._widths(numbers), 1)
        return [self.graph.values[n].from_rows(part) for n, part in zip(numbers, parts, strict=True)]

    def _rows(self, number: int, value: Tensor) -> Tensor:
        return self.graph.values[number].to_rows(value)

    # --- variables ----------------------------------------------------------------------------------------------

    def _stage(self, rows: Rows, rectified: bool) -> Rows:
        """Variables for some rows, or for what is positive of them."""
        self.stages.append(Stage(rows, rectified, self.width))
        self.width += len(rows)
        return Rows.variables(self.stages[-1].start, len(rows))

    def _named(self, rows: Rows) -> Rows:
        """The rows as variables, those of an affine stage where they are not yet, so that later rows stay sparse."""
        plain = (np.diff(rows.slopes.indptr) == 1).all() and (rows.slopes.data == 1).all() and not rows.offsets.any()
        return rows if plain else self._stage(rows, False)

    def _larger(self, first: Rows, second: Rows) -> tuple[Rows, Rows]:
        """The larger and the smaller of two, row by row; one that is missing, at minus infinity, is never larger."""
        here, there = np.isfinite(first.offsets), np.isfinite(second.offsets)
        both = here & there
        if not both.all():
            first, second = _where(here, first, second), _where(there, second, first)
        ahead = self._stage(first[both] - second[both], True).spread(both)
        return second + ahead, first - ahead

    # --- steps with pieces --------------------------------------------------------------------------------------

    def _compared(self, step: Step, boundaries: Comparisons) -> Rows:
        """Units that compare: the map of one piece, and a rectifier for every comparison."""
        numbers = sorted({step.inputs[place] for place in step.active})
        own = self.graph.part([step.result], numbers)
        draws = self._draws(boundaries, numbers)
        jumps, above = self._jumps(step, boundaries, own, numbers, draws)

        def functions(values: Values) -> list[Tensor]:
            moved = [values[number] for number in numbers]
            count = len(self._rows(numbers[0], moved[0]))
            there = Linearization(own, self._placed(numbers, draws[:1].expand(count, -1)))
            piece = there.push(moved, offset=True)[0]
            return [self._rows(step.result, piece), *self._differences(step, boundaries, values, piece)]

        found, *differences = self._affine(numbers, functions)
        for difference, jump, over in zip(differences, jumps, above, strict=True):
            # Where the drawn piece is above a comparison, its map holds jump * difference already.
            changes = jump != 0
            rectified = self._stage(difference[changes], True).times(jump[changes]).spread(changes)
            found = found - difference.times(jump * over) + rectified
        return found

    def _differences(self, step: Step, boundaries: Comparisons, values: Values, like: Tensor) -> list[Tensor]:
        """Every comparison of every unit, (rows, K), at values of the step's inputs; ``like`` as its output."""
        pairs = boundaries.pairs([values[number] for number in step.inputs])
        return [self._rows(step.result, pair.difference().to(like.device).expand(like.shape)) for pair in pairs]

    def _draws(self, boundaries: Comparisons, numbers: Sequence[int]) -> Tensor:
        """Inputs of a step (draws, entries) at which its units are on all their pieces."""
        total = sum(self._widths(numbers))
        if isinstance(boundaries, Knots):  # an entry below the first knot, between every two, above the last
            knots = torch.tensor(boundaries.knots, dtype=torch.float64)
            places = torch.cat([knots[:1] - 1, (knots[1:] + knots[:-1]) / 2, knots[-1:] + 1])
            return places[:, None].expand(-1, total)
        generator = torch.Generator().manual_seed(0)
        draws = torch.randn(4, total, generator=generator, dtype=torch.float64)
        return torch.cat([size * part for size in SIZES for part in (draws, -draws)])

    def _jumps(
        self, step: Step, boundaries: Comparisons, own: Graph, numbers: Sequence[int], draws: Tensor
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """By how much of each comparison the map changes where it passes zero, and which the first draw is above."""
        generator = torch.Generator().manual_seed(1)
        step_by = torch.ones_like(draws[:1])
        if not isinstance(boundaries, Knots):
            step_by = torch.rand(step_by.shape, generator=generator, dtype=torch.float64) - 0.5
        held, count = self.track.held(len(draws)), len(draws)
        there = Linearization(own, self._placed(numbers, draws))
        moved = self._placed(numbers, step_by.expand(count, -1))
        images = self._rows(step.result, there.push(moved, offset=False)[0]).cpu().numpy()

        def at(items: Sequence[Tensor]) -> np.ndarray:
            values = held | dict(zip(numbers, items, strict=True))
            found = self._differences(step, boundaries, values, there.outputs[0])
            return torch.stack(found).cpu().numpy() if found else np.zeros((0, *images.shape))

        moves = at(moved)[:, 0] - at([torch.zeros_like(item) for item in moved])[:, 0]
        above = at(self._placed(numbers, draws)) > 0  # (comparisons, draws, K)
        jumps = np.where(moves == 0, 0.0, np.nan)
        for low, high in permutations(range(count), 2):
            flips = above[:, low] != above[:, high]
            # Where one comparison alone tells two draws apart, what their maps differ by is a multiple of it.
            single = (flips.sum(0) == 1) & flips & above[:, high] & np.isnan(jumps)
            with np.errstate(divide="ignore", invalid="ignore"):
                jumps = np.where(single, (images[high] - images[low]) / moves, jumps)
        if np.isnan(jumps).any():
            unit = int(np.isnan(jumps).any(0).argmax())
            raise refusal(step, f"the pieces of its unit {unit} were not found", "compare values of ordinary size")
        return list(jumps), list(above[:, 0])

    def _selected(self, step: Step, boundaries: Contest) -> Rows:
        """Units that select one of several entries: knockouts, as many as the units of a group have ranks."""
        if (self.graph.values[step.result].batch or BatchAxis()) != BatchAxis():
            raise refusal(step, "it keeps its samples in another axis than the first", "capture with the batch first")
        (number,) = {step.inputs[place] for place in step.active}

        def entries(values: Values) -> list[Tensor]:
            scores = boundaries.scores(values[number].double())
            return list(scores.reshape(len(scores), -1, scores.shape[-1]).unbind(-1))

        rest = self._affine([number], entries)
        units = self.graph.values[step.result].units
        if boundaries.order is Order.LARGEST:
            arguments = [found for rows in rest if (found := self._arguments(rows)) is not None]
            if boundaries.factor == 1 and len(arguments) == len(rest):
                # max(relu(a), relu(b)) = relu(max(a, b)): fewer units, and they compare what comes before rectifiers.
                return self._stage(self._knockout(arguments), True)
            return self._knockout(rest).times(np.full(len(rest[0]), float(boundaries.factor)))
        signs = np.full(len(rest[0]), float(boundaries.factor))
        ranked = [entry.times(signs) for entry in self._sorted(rest)]
        if boundaries.order is Order.RANK or boundaries.axis is None:
            ranks = self._ranks(step, boundaries, number)
            chosen = [(ranked[rank], ranks == rank) for rank in np.unique(ranks)]
            return reduce(Rows.__add__, [rows[where].spread(where) for rows, where in chosen])
        # Ranks stand first, and belong along the axis that units share.
        axis = boundaries.axis - 1
        order = np.arange(prod(units)).reshape(units[axis], *units[:axis], *units[axis + 1 :])
        return Rows.stack(ranked[: units[axis]])[np.moveaxis(order, 0, axis).ravel()]

    def _arguments(self, rows: Rows) -> Rows | None:
        """What rows rectify, minus infinity where they are; None where they are not all rectified variables."""
        there, stages = np.isfinite(rows.offsets), self.stages
        rectified = np.concatenate([np.zeros(self.features), *(np.full(len(s.rows), s.rectified) for s in stages)])
        (slopes := rows.slopes.copy()).eliminate_zeros()
        plain = (np.diff(slopes.indptr) == there).all() and (slopes.data == 1).all() and not rows.offsets[there].any()
        if not plain or not rectified[slopes.indices].all():
            return None
        # Each row is one rectified variable, so what that rectifies can be put in its place.
        own = Rows.stack([Rows.variables(0, self.features), *(stage.rows for stage in stages)])[slopes.indices]
        return Rows(own.spread(there).slopes, np.where(there, own.spread(there).offsets, rows.offsets))

    def _ranks(self, step: Step, boundaries: Contest, number: int) -> np.ndarray:
        """Which rank of its group every unit is of, as entries that differ show."""
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand(1, sum(self._widths([number])), dtype=torch.float64, generator=generator)
        placed = self._placed([number], draw)
        value = self.graph.part([step.result], [number]).run(placed)[0]
        ahead = boundaries.scores(placed[0]) > boundaries.factor * value.unsqueeze(-1)
        return ahead.sum(-1).flatten().cpu().numpy()

    def _knockout(self, entries: list[Rows]) -> Rows:
        """The largest of several rows, two by two."""
        while len(entries) > 1:
            half, odd = len(entries) // 2, entries[len(entries) // 2 * 2 :]
            largest, _ = self._larger(Rows.stack(entries[0 : 2 * half : 2]), Rows.stack(entries[1 : 2 * half : 2]))
            size = len(entries[0])
            entries = [largest[at * size : (at + 1) * size] for at in range(half)] + odd
        return entries[0]

    def _sorted(self, entries: list[Rows]) -> list[Rows]:
        """Several rows, the largest first: Batcher's merge exchange, whose every round compares disjoint pairs."""
        found, count, size = list(entries), len(entries), len(entries[0])
        for run in (2**n for n in range(count.bit_length())):
            for gap in (run // 2**n for n in range(run.bit_length())):
                starts = [low for first in range(gap % run, count - gap, 2 * gap) for low in range(first, first + gap)]
                lows = [low for low in starts if low + gap < count and low // (2 * run) == (low + gap) // (2 * run)]
                if lows:
                    firsts, seconds = [found[low] for low in lows], [found[low + gap] for low in lows]
                    larger, smaller = self._larger(Rows.stack(firsts), Rows.stack(seconds))
                    for place, low in enumerate(lows):
                        at = slice(place * size, (place + 1) * size)
                        found[low], found[low + gap] = larger[at], smaller[at]
        return found


def _where(mask: np.ndarray, first: Rows, second: Rows) -> Rows:
    """Rows of the first where a mask is true, of the second elsewhere."""
    return first[mask].spread(mask) + second[~mask].spread(~mask)
