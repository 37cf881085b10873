"""A template split into its spherical mean and the rest: what depends on the distance from a center, and what does not.

Two entries share a shell where their squared distances from the center are equal, which whole numbers decide: lengths
are taken in halves of an entry, so that the middle of an even number of them is exact too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import LINES, MOST_CHANNELS, Kind, Panel, axes_for, html_table, kind_of, panel_axes
from maxaffine._templates.parts import Parts
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

LISTED = 8  # samples of the table
PANEL, PROFILE = 2.1, 2.2  # inches of a row of pictures, and of the profile below


@dataclass(frozen=True, eq=False, repr=False)
class Shells(Parts):
    """f_c(x) = <A_iso, x> + <A_rest, x> + b: A_iso is the mean of A[x]_c over each shell; by `Templates.by_shells`.

    Over every shell A_rest adds up to 0, so A_iso and A_rest are orthogonal: <A_iso, x> depends on the means of x over
    the shells alone, <A_rest, x> on what these leave out. Each channel has shells of its own.
    """

    profile: Tensor  # the mean of A_c over each shell, which is A_iso by radius, (N, K, C, S) in double precision
    radii: Tensor  # distance of each shell from the center, in entries, increasing, (S,)
    counts: Tensor  # entries of one channel in each shell, (S,)
    shells: Tensor  # number of each entry's shell, (H, W) or (D, H, W)
    center: tuple[float, ...]  # along each axis of `shells`
    squares: Tensor  # |A_iso|^2 and |A_rest|^2, (N, K, 2)
    inputs: Tensor  # x, (N, *in)
    rows: Callable[[int], Tensor]  # A of a unit by its place, (N, *in), built when it is asked for

    @property
    def isotropic(self) -> Tensor:
        """<A_iso, x>, (N, K)."""
        return self.parts[..., 0]

    @property
    def rest(self) -> Tensor:
        """<A_rest, x>, (N, K)."""
        return self.parts[..., 1]

    @property
    def share(self) -> Tensor:
        """<A_iso, x> / <A, x>, (N, K): 1 where the rest adds nothing, beyond 0..1 where the two have opposite signs."""
        return self.isotropic / self.parts.sum(-1)

    @property
    def norm_share(self) -> Tensor:
        """|A_iso|^2 / |A|^2, (N, K), from 0 to 1: how much of the template itself is isotropic, whatever x is."""
        return self.squares[..., 0] / self.squares.sum(-1)

    def variance_share(self, unit: int | str = 0) -> Tensor:
        """How much of what A[x] makes of other inputs goes by distance alone, (N,), from 0 to 1.

        Over the inputs x' at hand, Var <A_iso, x'> / (Var <A_iso, x'> + Var <A_rest, x'>), with A held at each x. What
        is the same for all of them counts in neither part, as it does in `share`; so does what no input varies in.

        Args:
            unit: Place or name of the output among the chosen ones.

        Returns:
            One number for each input x; NaN where the template makes the same of all.

        Raises:
            BadInput: When there is no such unit, or fewer than two inputs to compare.
        """
        _, place = self._places(0, unit)
        if len(self.inputs) < 2:
            raise BadInput("x: a variance is over several inputs, and there is one; give more of them to `templates`")
        isotropic = torch.stack([self.spherical(n, place) for n in range(len(self.inputs))])
        x = self.inputs.to(isotropic).flatten(1)
        by_distance, by_rest = (
            (part.flatten(1) @ x.T).var(1) for part in (isotropic, self.rows(place).to(isotropic) - isotropic)
        )
        return by_distance / (by_distance + by_rest)

    def spherical(self, sample: int = 0, unit: int | str = 0) -> Tensor:
        """A_iso of one output at one input, shaped as the input."""
        sample, unit = self._places(sample, unit)
        return self.profile[sample, unit][:, self.shells.to(self.profile.device)].reshape(self.inputs.shape[1:])

    def plot(
        self,
        sample: int = 0,
        unit: int | str = 0,
        *,
        share: float = 0.995,
        cmap: str | Colormap | None = None,
        ax: Axes | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw input, template, A_iso and A_rest, of volumes in three slices through the center, above A_iso by radius.

        Args:
            sample: Number of the input.
            unit: Place or name of the output among the chosen ones.
            share: Share of the values that lie within the colors, so that a few steep ones do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red.
            ax: What to draw in; None makes a figure of pyplot.
            size: Width of a new figure in inches.

        Returns:
            The axes, whose ``child_axes`` are the pictures' and the profile's. Channels are summed in the pictures.

        Raises:
            BadInput: When there is no such sample or unit.
            MaxAffineError: When matplotlib is absent.
        """
        sample, unit = self._places(sample, unit)
        space = tuple(self.shells.shape)
        isotropic = self.spherical(sample, unit).cpu()
        whole, x = (item[sample].to(isotropic) for item in (self.rows(unit), self.inputs))
        arrays = [item.reshape(-1, *space) for item in (x, whole, isotropic, whole - isotropic)]
        names = ("input x", "template A", "A_iso, its mean over shells", "A_rest = A − A_iso")
        rows = [
            [
                Panel(item.numpy(), f"{name}\n{words}" if words else name, "input" if place == 0 else "signed")
                for place, (name, item) in enumerate(zip(names, cut, strict=True))
            ]
            for words, cut in _cuts(arrays, self.center)
        ]
        upper = PANEL * len(rows)
        axes = axes_for(ax, 8.6, upper + PROFILE, size=size)
        below = PROFILE / (upper + PROFILE)
        panel_axes(axes.inset_axes((0, below, 1, 0.97 - below)), rows, share, common=True, cmap=cmap)
        self._draw_profile(axes.inset_axes((0.1, 0.25 * below, 0.8, 0.7 * below)), sample, unit)
        axes.text(0.02, 0.985, self._title(sample, unit), fontsize=9, va="top", parse_math=False)
        return axes

    def _draw_profile(self, ax: Axes, sample: int, unit: int) -> None:
        for place, line in enumerate(self.profile[sample, unit].numpy(force=True)):
            ax.plot(self.radii.numpy(force=True), line, ".-", color=LINES[place % len(LINES)], label=f"channel {place}")
        ax.axhline(0, color="0.3", linewidth=0.8)
        ax.set_xlabel("distance from the center", fontsize=8)
        ax.set_ylabel("A_iso", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        if 1 < self.profile.shape[2] <= MOST_CHANNELS:
            ax.legend(fontsize=7, frameon=False)

    def _title(self, sample: int, unit: int) -> str:
        numbers = (self.isotropic, self.rest, self.offsets)
        parts = ", ".join(
            f"{name} {float(item[sample, unit]):.3g}".replace("-", "−")
            for name, item in zip(("⟨A_iso, x⟩", "⟨A_rest, x⟩", "b"), numbers, strict=True)
        )
        return f"{self.names[unit]}: {parts}"

    def __repr__(self) -> str:
        return f"Shells: {len(self.radii)} about {self.center}, of {len(self.names)} units at {len(self.parts)} inputs"

    def _repr_html_(self) -> str:
        columns = (self.isotropic, self.rest, self.offsets, self.share, self.norm_share)
        head = ("sample", "⟨A_iso, x⟩", "⟨A_rest, x⟩", "b", "share", "|A_iso|²/|A|²")
        rows = [
            (str(n), *(f"{float(column[n, 0]):.4g}".replace("-", "−") for column in columns))
            for n in range(min(LISTED, len(self.parts)))
        ]
        return f"<p>{self!r}; {self.names[0]}:</p>{html_table([head, *rows])}"


@dataclass(frozen=True)
class Grid:
    """The shells of inputs of a shape."""

    channels: int
    center: tuple[float, ...]
    shells: Tensor
    radii: Tensor
    counts: Tensor

    @classmethod
    def of(cls, shape: tuple[int, ...], center: Sequence[float | int] | None) -> Grid:
        """Those of inputs (C, H, W), (C, D, H, W), (H, W) or (D, H, W), about the middle or a center."""
        space = _space(shape, center)
        doubled = [length - 1 for length in space] if center is None else _doubled(center, space)
        squares = sum(
            (2 * np.arange(length) - twice).reshape([-1 if at == axis else 1 for at in range(len(space))]) ** 2
            for axis, (length, twice) in enumerate(zip(space, doubled, strict=True))
        )
        found, shells, counts = np.unique(squares, return_inverse=True, return_counts=True)
        return cls(
            channels=prod(shape) // prod(space),
            center=tuple(twice / 2 for twice in doubled),
            shells=torch.from_numpy(shells.reshape(space)),
            radii=torch.from_numpy(np.sqrt(found) / 2),
            counts=torch.from_numpy(counts),
        )

    def split(self, slopes: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of templates (K, *in) at one input: (<A_iso, x>, <A_rest, x>), the squares, the profile, sum |A_i x_i|."""
        flat, x = (item.reshape(-1, self.channels, self.shells.numel()) for item in (slopes, x))
        shells, counts = self.shells.flatten().to(flat.device), self.counts.to(flat)
        profile = flat.new_zeros(*flat.shape[:2], len(counts)).index_add_(2, shells, flat) / counts
        isotropic = profile[..., shells]
        both = torch.stack([isotropic, flat - isotropic], 1)
        return (both * x).sum((2, 3)), both.square().sum((2, 3)), profile, (flat * x).abs().sum((1, 2))


def _space(shape: tuple[int, ...], center: Sequence[float | int] | None) -> tuple[int, ...]:
    """The axes that distances are taken along: the last two of pictures, the last three of volumes."""
    axes = {2: 2, 4: 3}.get(len(shape))
    if len(shape) == 3:
        # Many slices may be a volume, or a picture of many channels: the length of the center says which.
        axes = 2 if shape[0] <= MOST_CHANNELS else None if center is None else len(center)
        if axes not in (2, 3):
            raise BadInput(
                f"center: inputs of shape {shape} are volumes (D, H, W) without a channel, or pictures of {shape[0]}"
                " channels; give center= with three numbers for the one, with two for the other"
            )
    if axes is None or (len(shape) == 2 and kind_of(shape) is not Kind.PICTURE):
        raise BadInput(
            f"inputs: of shape {shape} have no shells; by_shells is of pictures (C, H, W) and volumes (C, D, H, W)"
        )
    return shape[-axes:]


def _doubled(center: Sequence[float | int], space: tuple[int, ...]) -> list[int]:
    """Twice a center, in whole numbers."""
    where = " x ".join(map(str, space))
    if len(center) != len(space):
        raise BadInput(f"center: {tuple(center)} has {len(center)} numbers for the {len(space)} axes {where}")
    doubled = [2 * float(place) for place in center]
    if not all(0 <= twice <= 2 * (length - 1) for twice, length in zip(doubled, space, strict=True)):
        raise BadInput(f"center: {tuple(center)} lies outside {where} entries; the first is 0 along each axis")
    if any(twice != floor(twice) for twice in doubled):
        raise BadInput(f"center: {tuple(center)} is not in whole or half entries, so no distances would be equal")
    return [int(twice) for twice in doubled]


def _cuts(arrays: Sequence[Tensor], center: tuple[float, ...]) -> list[tuple[str, list[Tensor]]]:
    """Arrays (C, H, W) as they are; of (C, D, H, W) the slices through the center across each axis."""
    if len(center) == 2:
        return [("", list(arrays))]
    return [
        (f"axis {axis} at {floor(place)}", [item.select(axis + 1, floor(place)) for item in arrays])
        for axis, place in enumerate(center)
    ]
