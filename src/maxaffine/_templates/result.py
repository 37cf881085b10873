"""Templates: the rows of A[x] for some units, what they make of each input, of two units, and of parts of the input."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import Panel, html_table, panel_axes, panel_figure, png, short
from maxaffine._graph import as_rows, as_tuple
from maxaffine._maps import AffineMap, OffsetContributions
from maxaffine._network import Task, difference, require_classes, without_infinities
from maxaffine._progress import progress_bar
from maxaffine._templates.parts import Patches, Positions, check_place, patch_size, sum_patches
from maxaffine._templates.shells import Grid, Shells
from maxaffine.errors import BadInput, ExactnessError, MaxAffineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

LARGEST = 3
COLORS = ("red", "green", "blue")
SAMPLES, UNITS = 4, 5  # of the table
HELD_BYTES = 64 * 2**20  # up to this size all templates are built at once and kept
HEADER = ("sample", "unit", "value", "<A, x>", "b", "|A|", "cos(A, x)")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A_c - A_d at each input, for a winner c and a loser d: logit_c - logit_d = <A_c - A_d, x> + b_c - b_d."""

    inputs: tuple[Tensor, ...]  # the floating-point inputs, the samples in front
    winners: tuple[str, ...]  # name of c at each input
    losers: tuple[str, ...]  # name of d at each input
    winning: tuple[Tensor, ...]  # A_c, (N, *in) for each floating-point input
    losing: tuple[Tensor, ...]  # A_d, likewise
    inner: Tensor  # <A_c - A_d, x>, (N,)
    offsets: Tensor  # b_c - b_d, (N,)
    task: Task | None  # what the two units answer, as in :class:`Templates`

    @property
    def margins(self) -> Tensor:
        """By how much c is larger than d, (N,)."""
        return self.inner + self.offsets

    @property
    def slopes(self) -> Tensor | tuple[Tensor, ...]:
        """A_c - A_d, (N, *in); one tensor per floating-point input where there are several."""
        parts = self._differences
        return parts[0] if len(parts) == 1 else parts

    @property
    def shares(self) -> Tensor | tuple[Tensor, ...]:
        """(A_c - A_d) x entry by entry, (N, *in): what each entry of the input adds to ``inner``."""
        parts = tuple(item * x for item, x in zip(self._differences, self.inputs, strict=True))
        return parts[0] if len(parts) == 1 else parts

    @property
    def norms(self) -> Tensor:
        """|A_c - A_d|, (N,)."""
        return _length(self._differences)

    @property
    def cosines(self) -> Tensor:
        """The cosine of A_c with A_d, (N,); 0 where one of them is zero."""
        product = sum(as_rows(double(c) * double(d)).sum(1) for c, d in zip(self.winning, self.losing, strict=True))
        lengths = _length(self.winning) * _length(self.losing)
        return torch.where(lengths > 0, product / lengths, torch.zeros_like(lengths))

    @property
    def distances(self) -> Tensor:
        """|margin| / |A_c - A_d|, (N,): how far x is from c = d, as long as its region reaches so far; 0 on it."""
        # On c = d it is 0, also where the two templates are equal and the quotient would be 0 / 0.
        return torch.where(self.margins == 0, 0.0, self.margins.abs() / self.norms)

    def plot(
        self,
        sample: int = 0,
        input: int = 0,
        share: float = 0.995,
        ax: Axes | None = None,
        *,
        cmap: str | Colormap | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw the input, both templates, their difference, and what each entry of the input adds to the margin.

        Args:
            sample: Number of the sample.
            input: Which floating-point input, where there are several.
            share: Share of a row's values that lie within its colors, so that a few steep ones do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red, for pictures.
            size: Width of a new figure in inches; by default what its panels take.
            ax: What to draw in; None makes a figure of pyplot.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When the input has no plain picture, or there is no such sample or input.
            MaxAffineError: When matplotlib is absent.
        """
        n = check_place(sample, len(self.winners), "sample")
        place = check_place(input, len(self.inputs), "input")
        c, d = self.winners[n], self.losers[n]
        difference = self._differences[place][n]
        margin = f"{self.inner[n]:.2f} {_with_sign(self.offsets[n], '.2f')} = {self.margins[n]:.2f}".replace("-", "−")
        row = [
            Panel(array(self.inputs[place][n]), "input x", "input"),
            Panel(array(self.winning[place][n]), f"template of {c}"),
            Panel(array(self.losing[place][n]), f"template of {d}"),
            Panel(array(difference), f"{c} − {d}\n⟨A, x⟩ + b = {margin}", "alone"),
            Panel(array(difference * self.inputs[place][n]), "each entry's share\nof ⟨A, x⟩", "alone"),
        ]
        return panel_axes(ax, [row], share, cmap=cmap, size=size)

    @property
    def _differences(self) -> tuple[Tensor, ...]:
        return tuple(c - d for c, d in zip(self.winning, self.losing, strict=True))

    def __repr__(self) -> str:
        # No value wins over another one.
        over, margin = ("over", "margin") if self.task in (None, Task.CLASSES) else ("minus", "difference")
        lines = [
            f"  {c} {over} {d}: {self.inner[n]:.4g} {_with_sign(self.offsets[n], '.4g')} = {self.margins[n]:.4g}"
            for n, (c, d) in enumerate(zip(self.winners, self.losers, strict=True))
        ]
        return "\n".join([f"Comparison of {len(lines)} inputs: <A_c - A_d, x> + b_c - b_d = {margin}", *lines])


@dataclass(frozen=True, eq=False, repr=False)
class Templates:
    """The templates A[x]_c of K units at each of N inputs: unit c gives <A_c, x> + b_c, a matched filter.

    Made by :func:`maxaffine.templates`, which has checked that sum. Numbers are in double precision, templates in the
    network's own.

    Attributes:
        affine_map: The map whose outputs are the K units; its ``rows()`` give the templates in blocks.
        inputs: The floating-point inputs, the samples in front: (N, *in) each.
        layer: What the units belong to, in words.
        task: What the units answer, as in :meth:`maxaffine.SplineNetwork.task`; None inside a network.
        units: Flat number of each unit, (K,).
        names: Name of each unit.
        values: The network's own values at the units (the logits, at a classifier's output), (N, K).
        inner: <A_c, x>, (N, K).
        offsets: b_c, (N, K).
        norms: |A_c|, (N, K).
        bound: What rounding explains of values - inner - offsets, (N,).
        rounding: The same, relative to the size of the terms.
        offset_terms: From weights (N, K) to the size of the terms inside the network that make <weights, b>, (N,).
    """

    affine_map: AffineMap
    inputs: tuple[Tensor, ...]
    layer: str
    task: Task | None
    units: tuple[int, ...]
    names: tuple[str, ...]
    values: Tensor
    inner: Tensor
    offsets: Tensor
    norms: Tensor
    bound: Tensor
    rounding: float
    offset_terms: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def slopes(self) -> Tensor | tuple[Tensor, ...]:
        """All templates at once, (N, K, *in); one tensor per floating-point input where there are several."""
        return self.affine_map.slopes

    @property
    def residuals(self) -> Tensor:
        """Values - inner - offsets, (N, K): rounding."""
        return residuals(self.values, self.inner, self.offsets)

    @cached_property
    def contributions(self) -> OffsetContributions:
        """The exact split of b over the operators that have an offset; its ``sum()`` is b."""
        split = self.affine_map.offset_contributions()
        gap = difference(double(split.sum()), self.offsets).abs()
        # An infinity, as a mask puts it, says nothing about the rounding of others.
        sizes = torch.stack([without_infinities(double(part)).abs() for part in (*split.values(), self.offsets)]).sum(0)
        for unit in (gap > self.rounding * sizes).any(0).nonzero()[:, 0].tolist():  # parts that cancelled
            alone = torch.zeros_like(gap)
            alone[:, unit] = 1
            sizes[:, unit] = torch.maximum(sizes[:, unit], self.offset_terms(alone).to(sizes))
        if not bool((gap <= self.rounding * sizes).all()):
            raise ExactnessError(
                f"net: the operators' parts of the offset miss it by up to {float(gap.max()):.3g}, which rounding does"
                " not explain. This is a fault of maxaffine: please report it with the model"
            )
        return split

    @cached_property
    def cosines(self) -> Tensor:
        """The cosine of every template with every other, (N, K, K); 0 where one of them is zero."""
        # Rounding may carry a cosine past 1.
        lengths = self.norms[:, :, None] * self.norms[:, None, :]
        products = gram(self.affine_map, self.inputs)
        return torch.where(lengths > 0, products / lengths, torch.zeros_like(lengths)).clamp(-1, 1)

    @cached_property
    def matches(self) -> Tensor:
        """The cosine of every template with its input, (N, K); 0 where one of them is zero."""
        sizes = torch.stack([as_rows(double(x)).norm(dim=1) for x in self.inputs]).norm(dim=0)
        lengths = self.norms * sizes[:, None]
        return torch.where(lengths > 0, self.inner / lengths, torch.zeros_like(lengths)).clamp(-1, 1)

    def template(self, unit: SupportsIndex | str) -> Tensor | tuple[Tensor, ...]:
        """The templates of one unit; nothing else is built.

        Args:
            unit: Its flat number, or its name.

        Returns:
            (N, *in); one tensor per floating-point input where there are several.

        Raises:
            BadInput: When the unit is not among the chosen ones.
        """
        place = torch.full((len(self),), self.place(unit), device=self.values.device)
        parts = self.rows_at(place)
        return parts[0] if len(parts) == 1 else parts

    def runner_up(self) -> Comparison:
        """The largest unit against the second largest, at each input: what made this one win.

        Returns:
            The comparison, among the chosen units; of equal ones the lower is the winner.

        Raises:
            BadInput: When a single unit was chosen, or the units are values: no value is an answer that beats another.
        """
        require_classes(self.task or Task.CLASSES, "runner_up", "compare(c, d) takes two of the values apart")
        if len(self.units) < 2:
            raise BadInput("classes: a single unit was chosen, so there is no runner-up; choose two or more")
        order = self.values.argsort(dim=1, descending=True, stable=True)
        return self._compare(order[:, 0], order[:, 1])

    def compare(self, c: SupportsIndex | str, d: SupportsIndex | str) -> Comparison:
        """A_c - A_d at each input.

        Args:
            c: Flat number or name of one unit.
            d: The same of another.

        Returns:
            The comparison.

        Raises:
            BadInput: When one of them is not among the chosen units.
        """
        like = torch.zeros(len(self), dtype=torch.long, device=self.values.device)
        return self._compare(like + self.place(c), like + self.place(d))

    def plot(
        self,
        samples: SupportsIndex | Iterable[SupportsIndex] = 0,
        units: SupportsIndex | str | Iterable[SupportsIndex | str] | None = None,
        *,
        input: int = 0,
        channels: str = "sum",
        share: float = 0.995,
        cmap: str | Colormap | None = None,
        size: float | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw inputs beside their templates, as signed maps in colors symmetric about zero.

        Args:
            samples: Which samples of the batch, one per row.
            units: Flat numbers or names of the units; by default the (at most) three largest of each sample, or the
                first three where they are values.
            input: Which floating-point input, where there are several.
            channels: ``"sum"`` shows a template's response to a gray change; ``"each"`` has a row for every channel.
                Volumes (C, D, H, W), and pictures of more than four channels, are shown as slices, at most nine.
            share: Share of a row's values that lie within its colors, so that a few steep ones do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red, for pictures.
            size: Width of a new figure in inches; by default what its panels take.
            ax: What to draw in; None makes a figure of pyplot.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When the input has no plain picture, or there is no such sample, unit or input.
            MaxAffineError: When matplotlib is absent.
        """
        return panel_axes(ax, self._rows(samples, units, input, channels), share, channels == "each", cmap, size)

    def _rows(self, samples: Any, units: Any = None, input: int = 0, channels: str = "sum") -> list[list[Panel]]:
        """The panels of some samples, as in `plot`."""
        rows = [check_place(sample, len(self), "samples") for sample in several(samples)]
        if not rows:
            raise BadInput("samples: none is chosen; give at least one number")
        places = None if units is None else [self.place(unit) for unit in several(units)]
        part = check_place(input, len(self.inputs), "input")
        drawn = [self.panels(n, self.largest(n) if places is None else places, part) for n in rows]
        if channels == "each":
            if self.inputs[part].dim() not in (4, 5):
                raise BadInput(
                    f"channels: inputs of shape {tuple(self.inputs[part].shape[1:])} have no channels; leave it out"
                )
            return [channel for row in drawn for channel in _channels(row)]
        if channels != "sum":
            raise BadInput(f"channels: {channels!r} is neither 'sum' nor 'each'; choose one")
        return drawn

    def by_position(self, axis: int = 0, *, input: int = 0) -> Positions:
        """Each output as an exact sum over the positions of a sequence: <A_c, x> = sum_i <A_{c,i}, x_i>.

        Args:
            axis: The axis of the positions among the axes of one input.
            input: Which floating-point input, where there are several: the others' share is in none of the parts.

        Returns:
            The parts (N, K, P), with b and its split over the operators.

        Raises:
            BadInput: When the input has no such axis.
            ExactnessError: When the parts and b miss the network's own value by more than rounding explains.
        """
        x = self.inputs[check_place(input, len(self.inputs), "input")]
        if not -(x.dim() - 1) <= axis < x.dim() - 1:
            raise BadInput(f"axis: an input of shape {tuple(x.shape[1:])} has the axes 0..{x.dim() - 2}, got {axis}")
        place = 2 + axis % (x.dim() - 1)
        parts = self._sum_parts(input, lambda products: products.movedim(place, 2).flatten(3).sum(3))
        return Positions(parts, self.offsets, self.contributions, self.values, self.names)

    def by_patch(self, size: int | Sequence[int], *, input: int = 0) -> Patches:
        """Each output as an exact sum over patches of a picture, or segments of a signal: sum_p <A_{c,p}, x_p>.

        Args:
            size: Of a patch: (h, w) of pictures (C, H, W) or (H, W), (l,) of signals (C, L) or (L,), in general one
                number for each of the last axes, over whose others (the channels) all is summed. One whole number is
                the side of a square, or the length of a segment. What does not divide leaves smaller patches at the
                end.
            input: Which floating-point input, where there are several: the others' share is in none of the parts.

        Returns:
            The parts (N, K, H/h, W/w), or (N, K, L/l), rounded up, with b and its split over the operators; they draw
            themselves over the picture.

        Raises:
            BadInput: When patches of that size do not fit.
            ExactnessError: When the parts and b miss the network's own value by more than rounding explains.
        """
        x = self.inputs[check_place(input, len(self.inputs), "input")]
        sizes = patch_size(size, tuple(x.shape[1:]))
        parts = self._sum_parts(input, lambda products: sum_patches(products, sizes))
        return Patches(parts, self.offsets, self.contributions, self.values, self.names, sizes, x)

    def by_shells(self, center: Sequence[float | int] | None = None, *, input: int = 0) -> Shells:
        """Each output as an exact sum of what its template says by distance from a center alone, and of the rest.

        A = A_iso + A_rest, where A_iso is the mean of A over each shell, all entries of a channel at one distance from
        the center: <A_iso, x> + <A_rest, x> + b is the output. Equal distances are found in whole numbers.

        Args:
            center: (y, x) of pictures (C, H, W) or (H, W), (z, y, x) of volumes (C, D, H, W) or (D, H, W), in whole or
                half entries, the first at 0; the middle by default. Inputs of three axes, of which the first is longer
                than 4, need it: its length says whether that axis is one of channels.
            input: Which floating-point input, where there are several: the others' share is in neither part.

        Returns:
            ``isotropic`` and ``rest``, (N, K), with b and its split over the operators; the profile of A over radius.

        Raises:
            BadInput: When inputs are no pictures or volumes, or the center lies outside or has another length.
            ExactnessError: When the parts and b miss the network's own value by more than rounding explains.

        Example:
            >>> import torch, maxaffine as ma
            >>> model = torch.nn.Sequential(
            ...     torch.nn.Conv3d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(54, 1)
            ... ).eval()
            >>> x = torch.randn(4, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))
            >>> found = ma.capture(model, x).templates(x).by_shells()
            >>> found.radii[:3]
            tensor([0.0000, 1.0000, 1.4142], dtype=torch.float64)
            >>> bool((found.isotropic + found.rest + found.offsets - model(x)).abs().max() < 1e-5)
            True

        The question is that of L. Lucie-Smith, H. V. Peiris, A. Pontzen, B. Nord and J. Thiyagalingam, "Deep learning
        insights into cosmological structure formation" (arXiv 2011.10577, version of 2024), who retrain on spherical
        averages of the inputs.
        """
        x = self.inputs[check_place(input, len(self.inputs), "input")].detach()
        grid, found = Grid.of(tuple(x.shape[1:]), center), []
        for block in blocks(self.affine_map, self.inputs, None):
            # One sample at a time: in double precision a block takes twice the memory.
            split = [grid.split(double(block[input][n]), double(x[n])) for n in range(len(x))]
            found.append([torch.stack(items) for items in zip(*split, strict=True)])
        parts, squares, profile, sizes = (torch.cat(items, 1) for items in zip(*found, strict=True))
        self._check_parts(parts, sizes)

        def rows(unit: int) -> Tensor:
            return double(self.rows_at(torch.full((len(self),), unit, device=self.values.device))[input])

        return Shells(
            *(parts, self.offsets, self.contributions, self.values, self.names),
            *(profile, grid.radii, grid.counts, grid.shells, grid.center, squares, x, rows),
        )

    def _sum_parts(self, input: int, group: Callable[[Tensor], Tensor]) -> Tensor:
        """The entries of A_c times those of x, (N, K, *in), grouped into sums; block by block, and checked."""
        front = double(self.inputs[input]).unsqueeze(1)
        found = [group(double(block[input]) * front) for block in blocks(self.affine_map, self.inputs, None)]
        parts = torch.cat(found, dim=1)
        self._check_parts(parts, parts.flatten(2).abs().sum(2))
        return parts

    def _check_parts(self, parts: Tensor, sizes: Tensor) -> None:
        """Check that parts (N, K, *parts), of terms of some sizes (N, K), add up to <A, x>."""
        # Without rounding the parts of all inputs do; those of one of several do not.
        gap = (parts.flatten(2).sum(2) - self.inner).abs()
        if len(self.inputs) == 1 and not bool((gap <= self.rounding * (sizes + self.offsets.abs())).all()):
            raise ExactnessError(
                f"net: the parts miss <A, x> by up to {float(gap.max()):.3g}, which rounding does not explain. This"
                " is a fault of maxaffine: please report it with the model"
            )

    def largest(self, sample: int, count: int = LARGEST) -> list[int]:
        """Places of the largest units of a sample, in order; of values, which do not compete, the first ones."""
        if self.task not in (None, Task.CLASSES):
            return list(range(len(self.units)))[:count]
        return self.values[sample].argsort(descending=True, stable=True)[:count].tolist()

    def panels(self, n: int, places: Sequence[int], part: int) -> list[Panel]:
        """The panels of one sample: the input, and the templates at these places."""
        row = [Panel(array(self.inputs[part][n]), f"input x\n(sample {n})", "input")]
        for place in places:
            # One pull per unit: the templates that are not drawn are not built.
            values = as_tuple(self.template(self.units[place]))[part][n]
            inner, offset = float(self.inner[n, place]), float(self.offsets[n, place])
            sign = "+" if offset >= 0 else "−"
            numbers = f"{inner:.2f} {sign} {abs(offset):.2f} = {float(self.values[n, place]):.2f}".replace("-", "−")
            row.append(Panel(array(values), f"{short(self.names[place], 26)}\n⟨A, x⟩ + b = {numbers}"))
        return row

    def _compare(self, winners: Tensor, losers: Tensor) -> Comparison:
        """Two of the chosen units, by their places, at every input."""
        samples = torch.arange(len(winners), device=winners.device)
        inner = self.inner[samples, winners] - self.inner[samples, losers]
        offsets = self.offsets[samples, winners] - self.offsets[samples, losers]
        names = self.names
        return Comparison(
            inputs=self.inputs,
            winners=tuple(names[place] for place in winners.tolist()),
            losers=tuple(names[place] for place in losers.tolist()),
            winning=self.rows_at(winners),
            losing=self.rows_at(losers),
            inner=inner,
            offsets=offsets,
            task=self.task,
        )

    def place(self, unit: SupportsIndex | str) -> int:
        """Where a unit, given by its flat number or its name, stands among the chosen ones."""
        known = self.names if isinstance(unit, str) else self.units
        if unit not in known:
            few = ", ".join(map(str, known[:12])) + (", ..." if len(known) > 12 else "")
            raise BadInput(f"unit: {unit!r} is not among the chosen units {few}; choose it with classes=")
        if (count := known.count(unit)) > 1:
            same = [number for number, name in zip(self.units, self.names, strict=True) if name == unit]
            raise BadInput(f"unit: {count} units are called {unit!r}: {same}; name one by its number")
        return known.index(unit)

    def rows_at(self, places: Tensor) -> tuple[Tensor, ...]:
        """One template per input, of the unit at its place (N,): per floating-point input (N, *in)."""
        # A^T e_c, a unit of its own at each input: one pull for the whole batch.
        one_hot = torch.zeros(self.values.shape, dtype=self.inputs[0].dtype, device=self.inputs[0].device)
        one_hot.scatter_(1, places.to(one_hot.device)[:, None], 1)
        return as_tuple(self.affine_map.rmv(one_hot))

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(item.shape[1:])) for item in self.inputs)
        worst = float(self.residuals.abs().max())
        return (
            f"Templates of {len(self.units)} units of {self.layer} at {len(self)} inputs of shape {shapes}:"
            f" <A_c, x> + b_c = value within {worst:.2g} (rounding explains {float(self.bound.max()):.2g})"
        )

    def _repr_html_(self) -> str:
        rows = [row for sample in range(min(SAMPLES, len(self))) for row in self._table_rows(sample)]
        return f"<p><b>Templates</b>: {escape(repr(self))}</p>{html_table([HEADER, *rows])}{self._picture()}"

    def _table_rows(self, sample: int) -> list[tuple[str, ...]]:
        columns = (self.values, self.inner, self.offsets, self.norms, self.matches)
        lines = []
        for place in self.largest(sample, UNITS):
            numbers = [f"{float(column[sample, place]):.4g}".replace("-", "−") for column in columns]
            lines.append((str(sample), self.names[place], *numbers))
        return lines

    def _picture(self) -> str:
        try:
            figure = panel_figure(self._rows(range(min(SAMPLES, len(self)))))
        except MaxAffineError as error:
            return f"<p>{escape(str(error))}</p>"
        encoded = base64.b64encode(png(figure)).decode("ascii")
        return f'<img alt="inputs and templates" src="data:image/png;base64,{encoded}">'


def several(items: Any) -> list[Any]:
    """Some items, or a single one that stands alone: a number, a name, or a collection such as a tensor."""
    if isinstance(items, Tensor | np.ndarray | np.generic):
        items = items.tolist()
    return list(items) if isinstance(items, Iterable) and not isinstance(items, str) else [items]


def _channels(row: Sequence[Panel]) -> list[list[Panel]]:
    count = len(row[0].array)
    names = COLORS if count == len(COLORS) else [f"channel {number}" for number in range(count)]
    return [
        [Panel(panel.array[number], f"{panel.words}\n{name}", panel.role) for panel in row]
        for number, name in enumerate(names)
    ]


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor."""
    return double(tensor.detach()).cpu().numpy()


def _length(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([as_rows(double(part)).norm(dim=1) for part in parts]).norm(dim=0)


def _with_sign(value: Tensor, form: str) -> str:
    number = float(value)
    return f"{'+' if number >= 0 else '-'} {abs(number):{form}}"


def measure(affine_map: AffineMap, inputs: tuple[Tensor, ...], progress: bool | None) -> tuple[Tensor, Tensor, Tensor]:
    """<A_c, x>, |A_c|, and sqrt(sum_i (A_ci x_i)^2), the size of the terms of the first, each (N, K) in float64."""
    found = [_block_sums(block, inputs) for block in blocks(affine_map, inputs, progress)]
    inner, squares, spreads = torch.cat(found, 2)
    return inner, squares.sqrt(), spreads.sqrt()


def gram(affine_map: AffineMap, inputs: tuple[Tensor, ...], progress: bool | None = None) -> Tensor:
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


def blocks(affine_map: AffineMap, inputs: tuple[Tensor, ...], progress: bool | None) -> Iterator[tuple[Tensor, ...]]:
    """The rows of A in blocks: per floating-point input a tensor (N, rows, *in)."""
    if _fits(affine_map, inputs):
        affine_map.prepare()  # whoever asks for rows asks for offsets too
        yield as_tuple(affine_map.slopes)
        return
    with progress_bar(progress, "templates", total=affine_map.out_shape[0], unit="row") as bar:
        for block in affine_map.rows():
            yield block
            bar.update(block[0].shape[1])


def double(tensor: Tensor) -> Tensor:
    """The tensor in double precision, on the CPU where its device has none."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def _fits(affine_map: AffineMap, inputs: tuple[Tensor, ...]) -> bool:
    return affine_map.out_shape[0] * sum(item.numel() * item.element_size() for item in inputs) <= HELD_BYTES


def _block_sums(block: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """<A_c, x>, |A_c|^2 and sum_i (A_ci x_i)^2 for some rows, (3, N, rows)."""
    rows = []
    for n in range(len(inputs[0])):  # one sample at a time: in double precision a block takes twice the memory
        parts = [(double(as_rows(part[n])), double(x[n].flatten())) for part, x in zip(block, inputs, strict=True)]
        inner = torch.stack([a @ x for a, x in parts]).sum(0)
        squares = torch.stack([torch.linalg.vector_norm(a, dim=1) ** 2 for a, _ in parts]).sum(0)
        spreads = torch.stack([a.square() @ x.square() for a, x in parts]).sum(0)
        rows.append(torch.stack([inner, squares, spreads]))
    return torch.stack(rows, 1)


def _square(parts: Sequence[Tensor]) -> Tensor:
    """A A^T of one sample, its rows split over the inputs: (K, K)."""
    rows = torch.cat([double(as_rows(part)) for part in parts], 1)
    return rows @ rows.T


def residuals(values: Tensor, inner: Tensor, offsets: Tensor) -> Tensor:
    """Values - inner - offsets, where equal infinities of value and offset, as a mask puts them, cancel."""
    return torch.where(values == offsets, -inner, values - inner - offsets)
