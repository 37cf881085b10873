"""The whole network over a polygon, depth first: blocks of cells go through the operators one after the other.

A block whose values would not fit in memory is split into blocks of neighbouring cells, each of which goes through all
the following operators before the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from maxaffine.errors import PartitionError
from maxaffine.partition.planes.complex import Complex
from maxaffine.partition.planes.divide import divide
from maxaffine.partition.planes.growth import Growth
from maxaffine.partition.planes.levels import Level, Rows

OVERHEAD = 1024  # bytes of a vertex with its share of edges and cells while a complex is divided


@dataclass(frozen=True, eq=False)
class Carried:
    """Values at the vertices of a block, made when they are needed.

    Attributes:
        rows: The values at the vertices before a division.
        growth: The vertices behind it.
        chosen: Those of the block; None for all.
    """

    rows: Rows
    growth: Growth
    chosen: np.ndarray | None

    def made(self) -> Rows:
        """The values."""
        return self.growth.grown(self.rows, self.chosen)


@dataclass(frozen=True, eq=False)
class Block:
    """Some cells on their way through the network.

    Attributes:
        level: The next level.
        cells: The cells.
        names: (V,) a number of each vertex that it has in every block.
        carried: The values at the vertices.
    """

    level: int
    cells: Complex
    names: np.ndarray
    carried: Carried


@dataclass(frozen=True, eq=False)
class Leaf:
    """Cells that are not divided further.

    Attributes:
        cells: The cells.
        names: (V,) a number of each vertex that it has in every leaf.
        values: (V, C) the outputs at the vertices; None where they are not kept.
        level: Operators that have divided the cells: all of them, unless the run was interrupted.
    """

    cells: Complex
    names: np.ndarray
    values: np.ndarray | None
    level: int


@dataclass(eq=False)
class Builder:
    """Sends a polygon through a network.

    Attributes:
        levels: The network.
        tolerance: A distance in the plane.
        memory: About how many bytes the values of one block may take.
        keep_values: Whether leaves keep the outputs at their vertices.
        done: Called with every finished leaf.
        watch: Called before every step with the blocks that wait.
    """

    levels: tuple[Level, ...]
    tolerance: float
    memory: int
    keep_values: bool
    done: Callable[[Leaf], None]
    watch: Callable[[list[Block]], None] = lambda blocks: None

    def __post_init__(self) -> None:
        self.names = 0
        self.chains: list[np.ndarray] = []
        self.chain_count = 0

    def run(self, polygon: Complex, rows: Rows) -> list[Leaf]:
        """Divide a polygon by all operators.

        Args:
            polygon: One cell.
            rows: The network's inputs at its corners.

        Returns:
            What an interruption (Ctrl-C) left unfinished; nothing otherwise.
        """
        self.names = len(polygon.points)
        carried = Carried(rows, Growth(len(polygon.points), ()), None)
        stack = [Block(0, polygon, np.arange(len(polygon.points)), carried)]
        try:
            while stack:
                self.watch(stack)
                # It stays on the stack while it is worked on, so that an interruption loses nothing.
                parts = self._advance(stack[-1])
                stack.pop()
                stack.extend(reversed(parts))
        except KeyboardInterrupt:
            return [Leaf(block.cells, block.names, None, block.level) for block in stack]
        return []

    def _advance(self, block: Block) -> list[Block]:
        """Send a block through one level; a leaf is handed on."""
        level = self.levels[block.level]
        if level.step is None:
            values = None
            if self.keep_values:
                values = level.run(block.carried.made())[level.graph.outputs[0]].numpy()
            self.done(Leaf(block.cells, block.names, values, block.level))
            return []
        rows = level.run(block.carried.made())
        try:
            division = divide(block.cells, level, rows, block.level, self.tolerance)
        except PartitionError as error:
            raise PartitionError(error.reason, error.place, error.unit, level.name) from error
        fresh = len(division.cells.points) - len(block.names)
        names = np.concatenate([block.names, self.names + np.arange(fresh)])
        self.names += fresh
        return self._split(block.level + 1, division.cells, names, Carried(rows, division.growth, None))

    def _split(self, level: int, cells: Complex, names: np.ndarray, carried: Carried) -> list[Block]:
        """One block, or several of neighbouring cells that fit in memory."""
        here, there = self.levels[level - 1].bytes_per_point(), self.levels[level].bytes_per_point()
        most = max(16, self.memory / (here + there + OVERHEAD))
        final = self.levels[level].step is None and not self.keep_values
        parts = 1 if final else min(ceil(len(names) / most), len(cells.starts) - 1)
        if parts <= 1:
            return [Block(level, cells, names, carried)]
        labels = neighbourhoods(cells.centres, parts)
        cells = self._with_chains(cells, labels)
        blocks = []
        for label in range(labels.max() + 1):
            part, vertices, _ = cells.cells(np.flatnonzero(labels == label))
            blocks.append(Block(level, part, names[vertices], replace(carried, chosen=vertices)))
        return blocks

    def _with_chains(self, cells: Complex, labels: np.ndarray) -> Complex:
        """Name the edges on which two blocks will border."""
        left, right = cells.edge_cells.T
        between = np.flatnonzero((left >= 0) & (right >= 0) & (labels[left] != labels[right]))
        chain = cells.chain.copy()
        chain[between] = self.chain_count + np.arange(len(between))
        self.chain_count += len(between)
        self.chains.append(cells.points[cells.ends[between]])
        return replace(cells, chain=chain)


def neighbourhoods(points: np.ndarray, parts: int) -> np.ndarray:
    """Label points so that those with one label lie close together, about as many in each.

    Args:
        points: (n, 2).
        parts: Number of labels.

    Returns:
        (n,) labels from 0.
    """
    labels = np.zeros(len(points), dtype=np.int64)
    waiting, count = [(np.arange(len(points)), parts)], 0
    while waiting:
        chosen, parts = waiting.pop()
        if parts <= 1 or len(chosen) <= 1:
            labels[chosen] = count
            count += 1
            continue
        axis = int(np.ptp(points[chosen], axis=0).argmax())
        low = parts // 2
        middle = max(1, len(chosen) * low // parts)
        order = chosen[np.argpartition(points[chosen, axis], middle - 1 if middle < len(chosen) else -1)]
        waiting += [(order[middle:], parts - low), (order[:middle], low)]
    return labels
