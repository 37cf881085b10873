"""The whole network over a polygon, depth first: blocks of cells go through the operators one after the other.

A block whose values would not fit in memory is split into blocks of neighboring cells, each of which goes through all
the following operators before the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from maxaffine._partition.planes.complex import SPOKE, Complex, groups
from maxaffine._partition.planes.divide import Division, divide
from maxaffine._partition.planes.growth import Growth
from maxaffine._partition.planes.levels import Level, Rows
from maxaffine._partition.planes.spokes import without_spokes
from maxaffine.errors import PartitionError

OVERHEAD = 1024  # bytes of a vertex with its share of edges and cells while a complex is divided


@dataclass(frozen=True, eq=False)
class Carried:
    """Values at the vertices of a block, made when they are needed.

    Attributes:
        rows: The values at the vertices before a division.
        growth: The vertices after it.
        chosen: Those of the block; None for all.
    """

    rows: Rows
    growth: Growth
    chosen: np.ndarray | None

    def made(self) -> Rows:
        """Values at the block's vertices."""
        return self.growth.grown(self.rows, self.chosen)


@dataclass(frozen=True)
class Turn:
    """One level on the way from the polygon to a block.

    Attributes:
        part: Which of the blocks after it the way goes on with.
        names: Vertices that were named in all blocks before it.
        chains: Edges that were named in all blocks before it.
        vertices: Vertices of the block after the division.
    """

    part: int
    names: int
    chains: int
    vertices: int


Path = tuple[Turn, ...]


@dataclass(frozen=True, eq=False)
class Borders:
    """The edges along which a block borders on others; both sides cut them on their own.

    Attributes:
        names: (n,) increasing numbers, the complex's ``chain``.
        ends: (n, 2, 2) coordinates of both ends of each.
    """

    names: np.ndarray
    ends: np.ndarray

    @classmethod
    def none(cls) -> Borders:
        """No borders."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, 2, 2)))

    @classmethod
    def joined(cls, parts: Sequence[Borders]) -> Borders:
        """Those of all parts, each once."""
        names, place = np.unique(np.concatenate([part.names for part in parts]), return_index=True)
        return cls(names, np.concatenate([part.ends for part in parts])[place])

    def of(self, cells: Complex) -> Borders:
        """Those that some cells have."""
        kept = np.isin(self.names, cells.chain)
        return Borders(self.names[kept], self.ends[kept])


@dataclass(frozen=True, eq=False)
class Block:
    """Some cells on their way through the network.

    Attributes:
        level: The next level.
        cells: The cells.
        names: (V,) a number of each vertex that it has in every block.
        borders: Its borders on other blocks.
        path: How it was made.
        carried: The values at the vertices.
    """

    level: int
    cells: Complex
    names: np.ndarray
    borders: Borders
    path: Path
    carried: Carried


@dataclass(frozen=True, eq=False)
class Leaf:
    """Cells that are not divided further.

    Attributes:
        cells: The cells.
        names: (V,) a number of each vertex that it has in every leaf.
        borders: Its borders on other leaves.
        path: How it was made; the last turn is the leaf's own, with what had been named when it was finished.
        values: (V, C) the outputs at the vertices; None where they are not kept.
        level: Operators that have divided the cells: all of them, unless the run was interrupted.
    """

    cells: Complex
    names: np.ndarray
    borders: Borders
    path: Path
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
        corners: The polygon's corners; the other vertices that it starts with are ends of spokes.
        done: Called with every finished leaf.
        watch: Called before every step with the blocks that wait.
        after: The path of the last leaf of an earlier run, whose leaves up to that one are not made again.
    """

    levels: tuple[Level, ...]
    tolerance: float
    memory: int
    keep_values: bool
    corners: int
    done: Callable[[Leaf], None]
    watch: Callable[[list[Block]], None] = lambda blocks: None
    after: Path = ()

    def __post_init__(self) -> None:
        self.names = 0
        self.chains = 0

    def run(self, polygon: Complex, rows: Rows) -> list[Leaf]:
        """Divide a polygon by all operators.

        Args:
            polygon: Its cells.
            rows: The network's inputs at their corners.

        Returns:
            What an interruption (Ctrl-C) left unfinished; nothing otherwise.
        """
        self.names = len(polygon.points)
        carried = Carried(rows, Growth(len(polygon.points), ()), None)
        stack = [Block(0, polygon, np.arange(len(polygon.points)), Borders.none(), (), carried)]
        try:
            while stack:
                self.watch(stack)
                # It stays on the stack while it is worked on, so that an interruption loses nothing.
                parts = self._advance(stack[-1])
                stack[-1:] = reversed(parts)
        except KeyboardInterrupt:
            return [self._leaf(block, block.path)[0] for block in stack]
        return []

    def _advance(self, block: Block) -> list[Block]:
        """Send a block through one level; a leaf is handed on."""
        before = self._turn_of(block.path)
        if before is not None:
            self.names, self.chains = before.names, before.chains
        level = self.levels[block.level]
        if level.step is None:
            if before is None:
                self._finish(block)
            return []
        made = block.carried.made()
        rows = level.run(made)
        try:
            division = divide(block.cells, level, made, rows, block.level, self.tolerance)
        except PartitionError as error:
            raise PartitionError(error.reason, error.place, error.unit, level.name, error.cure) from error
        if before is not None and before.vertices != len(division.cells.points):
            reason = f"{len(division.cells.points)} vertices where the earlier run had {before.vertices}"
            raise PartitionError(f"{reason}, so it cannot be continued; begin anew", (), None, level.name)
        blocks = self._split(block, division, rows)
        return blocks if before is None else blocks[before.part :]

    def _turn_of(self, path: Path) -> Turn | None:
        """What the earlier run did with a block through which its last leaf came; None for all other blocks."""
        known = self.after[: len(path)]
        same = len(path) < len(self.after) and all(a.part == b.part for a, b in zip(path, known, strict=True))
        return self.after[len(path)] if same else None

    def _finish(self, block: Block) -> None:
        path = (*block.path, Turn(0, self.names, self.chains, len(block.names)))
        leaf, vertices = self._leaf(block, path)
        if self.keep_values:
            level = self.levels[block.level]
            values = level.run(block.carried.made())[level.graph.outputs[0]].numpy()
            leaf = replace(leaf, values=values[vertices])
        self.done(leaf)

    def _leaf(self, block: Block, path: Path) -> tuple[Leaf, np.ndarray]:
        """A block as it is handed on, without values, and which of its vertices are left."""
        cells, vertices = without_spokes(block.cells, block.names, self.corners)
        return Leaf(cells, block.names[vertices], block.borders, path, None, block.level), vertices

    def _split(self, block: Block, division: Division, rows: Rows) -> list[Block]:
        """One block, or several of neighboring cells that fit in memory."""
        turn = Turn(0, self.names, self.chains, len(division.cells.points))
        level, cells = block.level + 1, division.cells
        fresh = len(cells.points) - len(block.names)
        names = np.concatenate([block.names, self.names + np.arange(fresh)])
        self.names += fresh
        carried = Carried(rows, division.growth, None)
        here, there = self.levels[level - 1].bytes_per_point(), self.levels[level].bytes_per_point()
        most = max(16, self.memory / (here + there + OVERHEAD))
        final = self.levels[level].step is None and not self.keep_values
        parts = 1 if final else min(ceil(len(names) / most), len(cells.starts) - 1)
        if parts <= 1:
            return [Block(level, cells, names, block.borders, (*block.path, turn), carried)]
        labels = neighborhoods(cells.centers, parts)
        spokes = cells.operator == SPOKE
        if spokes.any():  # cells that will be one again stay in one block
            labels = np.unique(labels[groups(cells.edge_cells[spokes], len(labels))], return_inverse=True)[1]
        cells, borders = self._name_borders(cells, block.borders, labels)
        blocks = []
        for label in range(labels.max() + 1):
            part, vertices, _ = cells.cells(np.flatnonzero(labels == label))
            path = (*block.path, replace(turn, part=label))
            waiting = replace(carried, chosen=vertices)
            blocks.append(Block(level, part, names[vertices], borders.of(part), path, waiting))
        return blocks

    def _name_borders(self, cells: Complex, borders: Borders, labels: np.ndarray) -> tuple[Complex, Borders]:
        """Name the edges on which two blocks will border."""
        left, right = cells.edge_cells.T
        between = np.flatnonzero((left >= 0) & (right >= 0) & (labels[left] != labels[right]))
        fresh = self.chains + np.arange(len(between))
        self.chains += len(between)
        chain = cells.chain.copy()
        chain[between] = fresh
        ends = np.concatenate([borders.ends, cells.points[cells.ends[between]]])
        return replace(cells, chain=chain), Borders(np.concatenate([borders.names, fresh]), ends)


def neighborhoods(points: np.ndarray, parts: int) -> np.ndarray:
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
