"""What templates make of their inputs, measured over blocks of rows that fit in memory; sums in double precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine._graph import as_rows, as_tuple
from maxaffine._maps import AffineMap
from maxaffine._progress import progress_bar

# Up to this size all templates are built at once and kept.
HELD_BYTES = 64 * 2**20

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """Sums over the entries of each template."""

    inner: Tensor  # <A_c, x>, (N, K)
    norms: Tensor  # |A_c|, (N, K)
    spreads: Tensor  # sqrt(sum_i (A_ci x_i)^2), the size of the terms of ``inner``, (N, K)


def measure(affine_map: AffineMap, inputs: Inputs, progress: bool | None = None) -> Measured:
    """Measure the rows of a map against its own floating-point inputs, in double precision."""
    sums = [_block_sums(block, inputs) for block in blocks(affine_map, inputs, progress)]
    inner, squares, spreads = (torch.cat(parts, 1) for parts in zip(*sums, strict=True))
    return Measured(inner, squares.sqrt(), spreads.sqrt())


def gram(affine_map: AffineMap, inputs: Inputs, progress: bool | None = None) -> Tensor:
    """<A_c, A_c'> for every two rows of a map, G = A A^T: (N, K, K) in double precision."""
    if _fits(affine_map, inputs):
        parts = as_tuple(affine_map.slopes)
        return torch.stack([_square([part[n] for part in parts]) for n in range(affine_map.batch)])
    # Where the rows do not fit in memory together, each is pushed through the map: G[:, c] = A (A_c).
    columns = [
        double(affine_map.mv([part[:, row] for part in block]))
        for block in blocks(affine_map, inputs, progress)
        for row in range(block[0].shape[1])
    ]
    return torch.stack(columns, 2)


def blocks(affine_map: AffineMap, inputs: Inputs, progress: bool | None) -> Iterator[tuple[Tensor, ...]]:
    """The rows of A in blocks: per floating-point input a tensor (N, rows, *in)."""
    if _fits(affine_map, inputs):
        yield as_tuple(affine_map.slopes)
        return
    with progress_bar(progress, "templates", total=affine_map.out_shape[0], unit="row") as bar:
        for block in affine_map.rows():
            yield block
            bar.update(block[0].shape[1])


def double(tensor: Tensor) -> Tensor:
    """The tensor in double precision, on the CPU where its device has none."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def _fits(affine_map: AffineMap, inputs: Inputs) -> bool:
    return affine_map.out_shape[0] * sum(item.numel() * item.element_size() for item in inputs) <= HELD_BYTES


def _block_sums(block: tuple[Tensor, ...], inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """<A_c, x>, |A_c|^2 and sum_i (A_ci x_i)^2 for some rows, each (N, rows); one sample at a time, for the memory."""
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for n in range(len(inputs[0])):
        parts = [(double(as_rows(part[n])), double(x[n].flatten())) for part, x in zip(block, inputs, strict=True)]
        inner = torch.stack([a @ x for a, x in parts]).sum(0)
        squares = torch.stack([torch.linalg.vector_norm(a, dim=1) ** 2 for a, _ in parts]).sum(0)
        spreads = torch.stack([a.square() @ x.square() for a, x in parts]).sum(0)
        rows.append((inner, squares, spreads))
    inner, squares, spreads = (torch.stack(column) for column in zip(*rows, strict=True))
    return inner, squares, spreads


def _square(parts: Sequence[Tensor]) -> Tensor:
    """A A^T of one sample, its rows split over the inputs: (K, K)."""
    rows = torch.cat([double(as_rows(part)) for part in parts], 1)
    return rows @ rows.T


def residuals(values: Tensor, inner: Tensor, offsets: Tensor) -> Tensor:
    """Values - inner - offsets, where equal infinities of value and offset, as a mask puts them, cancel."""
    return torch.where(values == offsets, -inner, values - inner - offsets)
