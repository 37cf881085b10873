"""Two templates against each other: what made one unit larger than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import Panel, panel_axes
from maxaffine._graph import as_rows
from maxaffine._network import Task
from maxaffine._templates.measuring import double
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        return torch.where(self.margins == 0, 0.0, self.margins.abs() / self.norms)

    def plot(self, sample: int = 0, input: int = 0, share: float = 0.995, ax: Axes | None = None) -> Axes:
        """Draw the input, both templates, their difference, and what each entry of the input adds to the margin."""
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
        return panel_axes(ax, [row], share)

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


def check_place(place: int, count: int, argument: str) -> int:
    """A place among ``count``, counted from either end, as one from the beginning."""
    if not -count <= place < count:
        raise BadInput(f"{argument}: {place} is not one of the {count} places; the first is 0")
    return place % count


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor."""
    return double(tensor.detach()).cpu().numpy()


def _length(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([as_rows(double(part)).norm(dim=1) for part in parts]).norm(dim=0)


def _with_sign(value: Tensor, form: str) -> str:
    number = float(value)
    return f"{'+' if number >= 0 else '-'} {abs(number):{form}}"
