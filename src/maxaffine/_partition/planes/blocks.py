"""The whole network over a polygon, depth first: blocks of cells go through the operators one after the other.

Layer by layer the number of cells only grows, and with it the values at their vertices: a million cells of a layer of a
thousand units are more than memory holds. But cells never need each other again once they are apart. So a block whose
values would not fit is split into blocks of neighboring cells, each of which goes through all the following operators
before the next one starts: what waits is small, since it has been divided less.

Blocks are told apart by nothing but where they lie. A vertex that two of them have is the same point, to the last bit,
since both were cut out of one complex that had it. The edges on which two blocks border are cut by each on its own; so
each remembers the whole edge, and which of its own edges are pieces of it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch

from maxaffine._partition.planes.complex.cells import SPOKE, Complex
from maxaffine._partition.planes.complex.faces import groups
from maxaffine._partition.planes.divide import divide
from maxaffine._partition.planes.growth import Growth
from maxaffine._partition.planes.levels import Rows
from maxaffine._partition.planes.spokes import drop_spokes
from maxaffine._partition.planes.task import Task
from maxaffine._progress import progress_bar
from maxaffine.errors import PartitionError

OVERHEAD = 1024  # bytes of a vertex with its share of edges and cells while a complex is divided
BAR = "{desc}: {percentage:3.0f}% of the area |{bar}| [{elapsed}<{remaining}{postfix}]"
Watch = Callable[[float, int], object]


# The way from the polygon to a block. For each level, which of the blocks after it the way goes on with, and how many
# vertices its division left, by which a later run knows whether it does the same.
Path = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Block:
    """Some cells on their way through the network."""

    level: int  # the next level
    cells: Complex  # the cells; the ``chain`` of an edge is the border that it is a piece of
    borders: np.ndarray  # (n, 2, 2) coordinates of both ends of the edges on which it borders on other blocks
    path: Path  # how it was made
    rows: Rows  # the values at the vertices before the last division; those of its own are made when they are needed
    growth: Growth  # the vertices after that division
    chosen: np.ndarray | None = None  # those of the block; None for all

    def values(self) -> Rows:
        """Values at the block's vertices."""
        return self.growth.extend(self.rows, self.chosen)


@dataclass(frozen=True, eq=False)
class Leaf:
    """Cells that are not divided further."""

    cells: Complex
    borders: np.ndarray  # as of the block that it was
    path: Path  # as of the block that it was
    values: np.ndarray | None  # (V, C) the outputs at the vertices; None where they are not kept
    level: int  # operators that have divided the cells: all of them, unless the run was interrupted


def divide_plane(
    task: Task,
    done: Callable[[Leaf], None],
    progress: bool | Watch | None,
    after: Path | None = None,
    area: float = 0.0,
) -> list[Leaf]:
    """Divide the polygon and hand every leaf to ``done``; what an interruption (Ctrl-C) left, nothing otherwise."""
    # An earlier run may have made the leaves up to the one with the path ``after``, of an area: they are not made
    # again.
    cells, rows = task.start()
    total, regions, most = float(cells.areas.sum()), 0, 0
    shown = False if callable(progress) else progress
    bar = None
    if shown is not False:  # a bar takes as long as a dozen of numpy's passes, also one that is never shown
        done_before = min(100 * area / total, 100.0)
        bar = progress_bar(shown, "plane", total=100.0, initial=done_before, unit="%", bar_format=BAR)

    def report(leaf: Leaf) -> None:
        nonlocal regions, area
        done(leaf)
        regions += len(leaf.cells.counts)
        area += float(leaf.cells.areas.sum())
        if bar is not None:
            bar.set_postfix_str(f"{regions} regions", refresh=False)
            bar.update(min(100 * area / total, 100.0) - bar.n)  # rounding may leave more than all of it

    def watch(blocks: list[Block]) -> None:
        nonlocal most
        if callable(progress):
            under_way = sum(float(block.cells.areas.sum()) * block.level for block in blocks) / len(task.levels)
            # Two cells on either side of a spoke will be one.
            count = sum(len(block.cells.counts) - int((block.cells.operator == SPOKE).sum()) for block in blocks)
            most = max(most, 1, regions + count)
            progress(min(1.0, (area + under_way) / total), most)

    start = Block(0, cells, np.zeros((0, 2, 2)), (), rows, Growth(len(cells.points), ()))
    with bar or nullcontext(), torch.no_grad():
        return Builder(task, report, watch, after).run(start)


@dataclass(frozen=True, eq=False)
class Builder:
    """Sends a polygon through a network."""

    task: Task  # the network, and how it is divided
    done: Callable[[Leaf], None]  # called with every finished leaf
    watch: Callable[[list[Block]], None]  # called before every step with the blocks that wait
    after: Path | None  # the path of the last leaf of an earlier run, whose leaves up to that one are not made again

    def run(self, start: Block) -> list[Leaf]:
        """Divide a block by all operators; what an interruption (Ctrl-C) left unfinished, nothing otherwise."""
        stack = [start]
        try:
            while stack:
                self.watch(stack)
                # It stays on the stack while it is worked on, so that an interruption loses nothing.
                parts = self._advance(stack[-1])
                stack[-1:] = reversed(parts)
        except KeyboardInterrupt:
            return [self._leaf(block) for block in stack]
        return []

    def _advance(self, block: Block) -> list[Block]:
        """Send a block through one level; a leaf is handed on."""
        # Blocks have the same paths in every run, since each is divided and split alike. Of a block through which the
        # last leaf of an earlier run came, the parts before it are finished: only that one and the others are followed.
        after = self.after if self.after is not None and block.path == self.after[: len(block.path)] else None
        level = self.task.levels[block.level]
        if level.step is None:
            if after is None:
                self._finish(block)
            return []
        before = block.values()
        rows = level.run(before)
        try:
            cells, growth = divide(block.cells, level, before, rows, block.level, self.task.tolerance)
        except PartitionError as error:
            raise PartitionError(error.reason, error.place, error.unit, level.name, error.cure) from error
        blocks = self._split(block, cells, growth, rows)
        if after is None:
            return blocks
        part, vertices = after[len(block.path)]
        if vertices != len(cells.points):
            reason = f"{len(cells.points)} vertices where the earlier run had {vertices}"
            raise PartitionError(f"{reason}, so it cannot be continued; begin anew", (), None, level.name)
        return blocks[part:]

    def _finish(self, block: Block) -> None:
        """Hand a block on as a leaf."""
        self.done(self._leaf(block, finished=True))

    def _leaf(self, block: Block, finished: bool = False) -> Leaf:
        """A block as it is handed on, with the outputs at its vertices if they are kept and it has all of them."""
        cells, vertices = drop_spokes(block.cells, self.task.corners)
        values = None
        if finished and self.task.keep_values:
            level = self.task.levels[block.level]
            values = level.run(block.values())[level.graph.outputs[0]].numpy()[vertices]
        return Leaf(cells, block.borders, block.path, values, block.level)

    def _split(self, block: Block, cells: Complex, growth: Growth, rows: Rows) -> list[Block]:
        """The divided cells of a block, as one block or as several of neighboring cells that fit in memory."""
        level = block.level + 1
        here, there = (self.task.levels[n].bytes_per_point for n in (level - 1, level))
        most = max(16, self.task.memory / (here + there + OVERHEAD))
        # After the last operator nothing is computed at the vertices, unless the outputs are kept.
        final = self.task.levels[level].step is None and not self.task.keep_values
        parts = 1 if final else min(ceil(len(cells.points) / most), len(cells.starts) - 1)
        if parts <= 1:
            path = (*block.path, (0, len(cells.points)))
            return [Block(level, cells, block.borders, path, rows, growth)]
        labels = neighborhoods(cells.centers, parts)
        spokes = cells.operator == SPOKE
        if spokes.any():  # cells that will be one again stay in one block
            labels = np.unique(labels[groups(cells.edge_cells[spokes], len(labels))], return_inverse=True)[1]
        # Edges between cells with different labels become borders, on which both parts will remember them.
        left, right = cells.edge_cells.T
        between = np.flatnonzero((left >= 0) & (right >= 0) & (labels[left] != labels[right]))
        chain = cells.chain.copy()
        chain[between] = len(block.borders) + np.arange(len(between))
        borders = np.concatenate([block.borders, cells.points[cells.ends[between]]])
        cells = replace(cells, chain=chain)
        blocks = []
        for label in range(labels.max() + 1):
            part, vertices, _ = cells.cells(np.flatnonzero(labels == label))
            # Borders are numbered anew, those of the part alone.
            kept = np.unique(part.chain[part.chain >= 0])
            part = replace(part, chain=np.where(part.chain >= 0, np.searchsorted(kept, part.chain), -1))
            path = (*block.path, (label, len(cells.points)))
            blocks.append(Block(level, part, borders[kept], path, rows, growth, vertices))
        return blocks


def neighborhoods(points: np.ndarray, parts: int) -> np.ndarray:
    """Label points (n, 2) so that those with one of ``parts`` labels lie close together, about as many in each."""
    # Halved along the longer side, again and again: labels follow the order of the halves, so that neighboring blocks
    # follow one another.
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
