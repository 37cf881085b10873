"""An output as an exact sum over parts of the input: positions of a sequence, patches of a picture or a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import SIGNED, axes_for, color_map, input_pixels, is_image, is_stack, short
from maxaffine._maps import OffsetContributions
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

LARGEST_PARTS = 12  # of the tables


@dataclass(frozen=True, eq=False, repr=False)
class Parts:
    """f_c(x) = sum_p <A[x]_{c,p}, x_p> + b[x]_c over parts p of the input."""

    parts: Tensor  # <A_{c,p}, x_p>, (N, K, *parts) in double precision
    offsets: Tensor  # b_c, (N, K)
    contributions: OffsetContributions  # the split of b over the operators
    values: Tensor  # the network's own values, (N, K)
    names: tuple[str, ...]  # names of the units, (K,)

    def _places(self, sample: int, unit: int | str) -> tuple[int, int]:
        """The places of a sample, and of a unit that may be named, among those there are."""
        if isinstance(unit, str):
            if unit not in self.names:
                raise BadInput(f"unit: {unit!r} is not among {', '.join(map(repr, self.names[:12]))}")
            unit = self.names.index(unit)
        return check_place(sample, len(self.parts), "sample"), check_place(unit, len(self.names), "unit")

    def _title(self, sample: int, unit: int) -> str:
        inner, offset = float(self.parts[sample, unit].sum()), float(self.offsets[sample, unit])
        sign = "+" if offset >= 0 else "−"
        split = f"{inner:.3g} {sign} {abs(offset):.3g} = {inner + offset:.3g}".replace("-", "−")
        return f"{short(self.names[unit], 40)}\n⟨A, x⟩ + b = {split}"

    def __repr__(self) -> str:
        kind, count = type(self).__name__, " x ".join(map(str, self.parts.shape[2:]))
        return f"{kind}: {count} of {len(self.names)} units at {len(self.parts)} inputs, and b"

    def _repr_html_(self) -> str:
        first = self.parts[0, 0]
        order = first.abs().flatten().argsort(descending=True)[:LARGEST_PARTS]
        places = np.stack(np.unravel_index(order.numpy(force=True), first.shape), 1).tolist()
        rows = "".join(
            f"<tr><td>{', '.join(map(str, place))}</td><td>{float(first[tuple(place)]):.4g}</td></tr>"
            for place in places
        )
        head = f"<p>{escape(repr(self))}; the largest of {escape(self.names[0])} at the first input:</p>"
        return f"{head}<table><tr><th>{type(self).__name__.lower()}</th><th>⟨A, x⟩</th></tr>{rows}</table>"


@dataclass(frozen=True, eq=False, repr=False)
class Positions(Parts):
    """The parts at positions of a sequence, (N, K, P); made by `Templates.by_position`."""

    def plot(
        self,
        sample: int = 0,
        unit: int | str = 0,
        positions: Sequence[str] | None = None,
        *,
        ax: Axes | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw the parts of one output as signed bars, the offset last; `positions` names them, `size` is in inches."""
        count = self.parts.shape[-1]
        words = [str(place) for place in range(count)] if positions is None else list(positions)
        if len(words) != count:
            raise BadInput(f"positions: {len(words)} for the {count} of the input; give one for each")
        sample, unit = self._places(sample, unit)
        axes = axes_for(ax, max(4.0, 0.28 * count), 2.8, sheet=False, size=size)
        heights = [*self.parts[sample, unit].tolist(), float(self.offsets[sample, unit])]
        axes.bar(range(count + 1), heights, color=["C3" if height < 0 else "C0" for height in heights])
        axes.set_xticks(range(count + 1), [*words, "b"])
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_title(self._title(sample, unit), fontsize=9, parse_math=False)
        return axes


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Parts):
    """The parts in patches of a picture, (N, K, rows, columns), or in segments; made by `Templates.by_patch`."""

    patch: tuple[int, ...]  # size of one; the last ones may be smaller
    inputs: Tensor  # x, (N, *in)

    def plot(
        self,
        sample: int = 0,
        unit: int | str = 0,
        *,
        cmap: str | Colormap | None = None,
        ax: Axes | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw what each patch adds to one output as a signed heat map over the picture, or behind the signal.

        Args:
            sample: Number of the input.
            unit: Place or name of the output among the chosen ones.
            cmap: A diverging color map of matplotlib instead of blue over white to red.
            ax: What to draw in; None makes a figure of pyplot.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: When there is no such sample or unit, or the input has no plain picture.
            MaxAffineError: When matplotlib is absent.
        """
        sample, unit = self._places(sample, unit)
        heat, x = self.parts[sample, unit].numpy(force=True), self.inputs[sample].numpy(force=True)
        if len(self.patch) > 2 or x.ndim > len(self.patch) + 1:
            raise BadInput(
                f"inputs: one of shape {x.shape} has no plain picture; take the numbers (`parts`), and draw a slice"
            )
        # Edges between pixels, whose centers are whole numbers.
        edges = [
            np.minimum(np.arange(count + 1) * side, length) - 0.5
            for count, side, length in zip(heat.shape, self.patch, x.shape[-len(self.patch) :], strict=True)
        ]
        width, height = (4.4, 3.6) if len(self.patch) == 2 else (6.0, 2.6)
        axes = axes_for(ax, width, height, sheet=False, size=size)
        end = float(np.abs(heat).max()) or 1.0
        options: dict[str, Any] = {"cmap": color_map(cmap, SIGNED), "vmin": -end, "vmax": end}
        if len(self.patch) == 2:
            # The picture is pale, so that it does not darken the colors, and seen as it is where nothing is added.
            gray = input_pixels(x.mean(0, keepdims=True) if is_stack(x.shape) else x).mean(-1)
            axes.imshow(0.55 + 0.45 * gray / 255, cmap="gray", vmin=0, vmax=1)
            drawn = axes.pcolormesh(edges[1], edges[0], heat, alpha=cast(Any, 0.85 * np.abs(heat) / end), **options)
            axes.set_axis_off()
        else:
            for line in np.atleast_2d(x):
                axes.plot(line, color="0.15", linewidth=0.9)
            low, high = axes.get_ylim()
            drawn = axes.pcolormesh(edges[0], [low, high], heat[None], alpha=0.6, zorder=0, **options)
            axes.set_xlabel("position")
        axes.get_figure(root=True).colorbar(drawn, ax=axes, shrink=0.8)  # pyright: ignore[reportOptionalMemberAccess]
        axes.set_title(self._title(sample, unit), fontsize=9, parse_math=False)
        return axes


def patch_size(size: int | Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size of a patch along the last axes of an input of a shape."""
    if isinstance(size, Sequence):
        sizes = tuple(size)
    elif len(shape) <= 2 or is_image(shape):
        sizes = (size,) * (2 if is_image(shape) else 1)
    else:
        raise BadInput(f"size: an input of shape {shape} is no picture and no signal; give a number for each axis")
    pairs = zip(sizes, shape[max(0, len(shape) - len(sizes)) :], strict=False)
    if not 0 < len(sizes) <= len(shape) or not all(
        isinstance(one, int | np.integer) and 1 <= one <= length for one, length in pairs
    ):
        raise BadInput(
            f"size: patches of {' x '.join(map(str, sizes))} do not fit into an input of shape {shape}; give whole"
            " numbers of at least 1, one for each of the last axes and not more than it has"
        )
    return sizes


def sum_patches(products: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Products (N, K, *in) summed over all axes before the last and, along those, over patches."""
    front = products.dim() - len(sizes)
    products = products.reshape(*products.shape[:2], -1, *products.shape[front:]).sum(2)
    for axis, size in enumerate(sizes, start=2):
        # Zeros fill up the last patch, which they add nothing to.
        filling = products.new_zeros(*products.shape[:axis], -products.shape[axis] % size, *products.shape[axis + 1 :])
        products = torch.cat([products, filling], axis).unflatten(axis, (-1, size)).sum(axis + 1)
    return products


def check_place(place: int, count: int, argument: str) -> int:
    """A place among ``count``, counted from either end, as one from the beginning."""
    if not -count <= place < count:
        raise BadInput(f"{argument}: {place} is not one of the {count} places; the first is 0")
    return place % count
