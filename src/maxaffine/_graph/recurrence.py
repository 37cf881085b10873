"""Recurrences: where a graph applies the same parameters to a value again and again, and the states in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._graph.graph import CARRYING, Graph, Step

# So many applications show what lies on every way through two of them: the states.
FEWEST = 4
Kind = tuple[str, str, str, tuple[int, ...]]


@dataclass(frozen=True)
class Recurrence:
    """One layer's walk over time.

    Attributes:
        states: Numbers of the values that are its state, in running order: all that an earlier step carries to a later
            one passes there.
        operators: Of each step the names of the operators with codes that make its state.
        begins: Whether the first step's state is made of an earlier one, which was given; else it began at a constant.
    """

    states: tuple[int, ...]
    operators: tuple[tuple[str, ...], ...]
    begins: bool


def recurrences(graph: Graph) -> tuple[Recurrence, ...]:
    """Every recurrence of at least four applications of the same parameters, in running order."""
    finder = _Finder(graph)
    found: dict[tuple[int, ...], Recurrence] = {}
    for chain in finder.chains():
        one = finder.recurrence(chain)
        # The gates of a cell written by hand are several chains with the same states.
        if one is not None and not any(set(one.states) & set(states) for states in found):
            found[one.states] = one
    return tuple(found[states] for states in sorted(found))


class _Finder:
    """What is upstream of what in a graph: sets of steps by their places, as the bits of whole numbers."""

    def __init__(self, graph: Graph) -> None:
        self.steps = graph.steps
        carried = graph.carriers()
        self.upstream: list[int] = []  # of each step all the steps before it, and itself
        self.carrying: list[int] = []  # likewise, by what is carried alone: not by gates
        made: dict[int, int] = {}
        self.sources: list[list[int]] = []  # the steps whose values a step carries on
        for place, step in enumerate(self.steps):
            whole = carrying = 1 << place
            sources = []
            for position, number in enumerate(step.inputs):
                if number not in made:
                    continue
                whole |= self.upstream[made[number]]
                if position not in step.held and number in carried and graph.values[number].dependence in CARRYING:
                    carrying |= self.carrying[made[number]]
                    sources.append(made[number])
            self.upstream.append(whole)
            self.carrying.append(carrying)
            self.sources.append(sources)
            made.update((number, place) for number in step.outputs if number is not None)

    def chains(self) -> list[list[int]]:
        """The steps that apply the same parameters, each to what the one before has led to."""
        groups: dict[tuple, list[int]] = defaultdict(list)
        for place, step in enumerate(self.steps):
            for tensor in _tensors(step):
                groups[tensor].append(place)
        chains = []
        for places in groups.values():
            own: list[list[int]] = []
            for place in dict.fromkeys(places):
                before = next((chain for chain in own if self.carrying[place] >> chain[-1] & 1), None)
                own.append([place]) if before is None else before.append(place)
            chains += [chain for chain in own if len(chain) >= FEWEST]
        return sorted(chains)

    def recurrence(self, chain: Sequence[int]) -> Recurrence | None:
        """The states of a chain; None where the steps differ or no single value carries."""
        inner = [self._state(chain, at) for at in range(1, len(chain) - 2)]
        if None in inner:
            return None
        states = [place for place in inner if place is not None]
        kind = self._kind(states[0])
        # At the ends it is what is found at the same turn inside, as there is no step before or after to tell it by.
        turn = self._alike(kind, chain[1], chain[2]).index(states[0])
        if any(self._kind(place) != kind for place in states):
            return None
        first = self._alike(kind, chain[0], chain[1])
        second, last = self._alike(kind, chain[-2], chain[-1]), self._alike(kind, chain[-1], None)
        if min(len(first), len(second), len(last)) <= turn:
            return None
        # After the last of what a step ends with, a projection, the next layer may have states of the same kind.
        own = set.intersection(*(self._tensors(chain[at], place) for at, place in enumerate(states, 1)))
        if not own <= self._tensors(chain[-1], last[turn]):
            return None
        states = [first[turn], *states, second[turn], last[turn]]
        before = [p for p in range(chain[0]) if self.upstream[chain[0]] >> p & 1 and self._kind(p) == kind]
        operators: list[list[int]] = [self._operators(chain[at], place) for at, place in enumerate(states)]
        if len({len(row) for row in operators}) > 1:
            return None
        if before:
            first_row = self._first_operators(operators[0], before[-1])
            there = [turn for turn, place in enumerate(first_row) if place is not None]
            operators = [[row[turn] for turn in there] for row in (first_row, *operators)]  # pyright: ignore
        places = [*before[-1:], *states]
        return Recurrence(
            tuple(self.steps[place].result for place in places),
            tuple(tuple(self.steps[p].records[0].name for p in row) for row in operators),
            not before,
        )

    def _state(self, chain: Sequence[int], at: int) -> int | None:
        """The smallest value (of equal ones the last) that all ways from the step before to two steps on pass."""
        start, end = chain[at - 1], chain[at + 2]
        members = [p for p in range(start, end + 1) if self.carrying[end] >> p & 1 and self.carrying[p] >> start & 1]
        inside = set(members)
        # Met in running order, a step is on every way if no way that was open before it goes on past it.
        last_use = {source: place for place in members for source in self.sources[place] if source in inside}
        single, furthest = [], start
        for place in members:
            if furthest <= place:
                single.append(place)
            furthest = max(furthest, last_use.get(place, place))
        own = [p for p in single if self.upstream[p] >> chain[at] & 1 and not self.upstream[p] >> chain[at + 1] & 1]
        own = [p for p in own if sum(number is not None for number in self.steps[p].outputs) == 1]
        return min(own, key=lambda p: (prod(self._units(p)), -p), default=None)

    def _alike(self, kind: Kind | None, start: int, end: int | None) -> list[int]:
        """The steps of a kind downstream of one place and not of another."""
        return [
            place
            for place in range(start, len(self.steps))
            if self.upstream[place] >> start & 1
            and not (end is not None and self.upstream[place] >> end & 1)
            and self._kind(place) == kind
        ]

    def _between(self, start: int, state: int) -> list[int]:
        """The steps from an application of the parameters to its state."""
        return [p for p in range(start, state + 1) if self.upstream[p] >> start & 1 and self.upstream[state] >> p & 1]

    def _operators(self, start: int, state: int) -> list[int]:
        """Those of them with codes."""
        return [p for p in self._between(start, state) if self.steps[p].piecewise]

    def _tensors(self, start: int, state: int) -> set[tuple]:
        """The tensors that they apply."""
        return {tensor for place in self._between(start, state) for tensor in _tensors(self.steps[place])}

    def _first_operators(self, like: Sequence[int], state: int) -> list[int | None]:
        """Those of a first step that begins at a constant: the last ones before its state of the kinds of the next."""
        # What has folded into the constant has none there.
        left = [p for p in range(state + 1) if self.upstream[state] >> p & 1]
        found: list[int | None] = []
        for place in reversed(like):
            match = next((p for p in reversed(left) if self._kind(p) == self._kind(place)), None)
            found.append(match)
            left = [p for p in left if p != match]
        return found[::-1]

    def _units(self, place: int) -> tuple[int, ...]:
        records = self.steps[place].records
        return records[0].units if records else ()

    def _kind(self, place: int) -> Kind | None:
        records = self.steps[place].records
        return (records[0].kind, records[0].module_path, records[0].source, records[0].units) if records else None


def _tensors(step: Step) -> list[tuple]:
    """The tensors that a step applies, parameters among them, each by where it lies and its shape."""
    found = tree_leaves([vars(step.operator), getattr(step.operator, "args", ())]) if step.records else []
    return [(item.data_ptr(), tuple(item.shape)) for item in found if isinstance(item, Tensor) and item.numel()]
