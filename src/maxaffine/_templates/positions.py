"""An output as an exact sum over positions: what each token, time step or row of a sequence adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from torch import Tensor

from maxaffine._drawing import axes_for, short
from maxaffine._maps import OffsetContributions
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGEST = 12


@dataclass(frozen=True, eq=False, repr=False)
class Positions:
    """f_c(x) = sum_i <A[x]_{c,i}, x_i> + b[x]_c over the positions i of an input; made by `Templates.by_position`."""

    parts: Tensor  # <A_{c,i}, x_i>, (N, K, P) in double precision
    offsets: Tensor  # b_c, (N, K)
    contributions: OffsetContributions  # the split of b over the operators
    values: Tensor  # the network's own values, (N, K)
    names: tuple[str, ...]  # names of the units, (K,)

    def plot(
        self, sample: int = 0, unit: int = 0, positions: Sequence[str] | None = None, *, ax: Axes | None = None
    ) -> Axes:
        """Draw the parts of one output as signed bars, the offset last."""
        count = self.parts.shape[-1]
        words = [str(place) for place in range(count)] if positions is None else list(positions)
        if len(words) != count:
            raise BadInput(f"positions: {len(words)} for the {count} of the input; give one for each")
        if not (0 <= sample < len(self.parts) and 0 <= unit < len(self.names)):
            raise BadInput(
                f"sample, unit: there is no unit {unit} of sample {sample}; there are {self.parts.shape[:2]}"
            )
        axes = axes_for(ax, max(4.0, 0.28 * count), 2.8, sheet=False)
        heights = [*self.parts[sample, unit].tolist(), float(self.offsets[sample, unit])]
        axes.bar(range(count + 1), heights, color=["C3" if height < 0 else "C0" for height in heights])
        axes.set_xticks(range(count + 1), [*words, "b"])
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set_title(f"{short(self.names[unit], 40)}: {sum(heights):.3g}")
        return axes

    def __repr__(self) -> str:
        return f"Positions: {self.parts.shape[-1]} of {len(self.names)} units at {len(self.parts)} inputs, and b"

    def _repr_html_(self) -> str:
        order = self.parts[0, 0].abs().argsort(descending=True)[:LARGEST].tolist()
        rows = "".join(f"<tr><td>{place}</td><td>{float(self.parts[0, 0, place]):.4g}</td></tr>" for place in order)
        head = f"<p>{escape(repr(self))}; the largest of {escape(self.names[0])} at the first input:</p>"
        return f"{head}<table><tr><th>position</th><th>⟨A, x⟩</th></tr>{rows}</table>"
