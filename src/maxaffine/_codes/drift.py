"""How the codes of the same inputs differ between two networks of one architecture, or moments of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._codes.mapping import Codes
from maxaffine._codes.packed import PackedCodes, require_same_batch, require_same_operators
from maxaffine._drawing import Tabular, axes_for, color_map
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Operators named in the legend up to this many; the others are drawn without a name.
NAMED = 12
# Bytes of bit planes unpacked at a time.
_BLOCK_BYTES = 1 << 22


def code_changes(a: Codes, b: Codes) -> dict[str, torch.Tensor]:
    """Return, input by input, the fraction of each operator's units that have another code on the other side.

    d_l(n) = #{k : q_l(x_n)_k in a != q_l(x_n)_k in b} / K_l

    `code_distance` compares inputs of one network; this compares what two networks of the same architecture make of
    the same input, so the codes must come from the same inputs in the same order.

    Args:
        a: Codes of N inputs.
        b: Codes of the same inputs and operators.

    Returns:
        (N,) float64 in [0, 1] by operator name; 0 for an operator without units or with one piece.

    Raises:
        BadInput: If the operators or the numbers of inputs differ.

    Example:
        >>> before = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]]), 2)})
        >>> after = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), 2)})
        >>> code_changes(before, after)["relu"]
        tensor([0.2500, 0.0000], dtype=torch.float64)

    Source: the distance between partition encodings of Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into
    Deep Learning" (arXiv 1805.06576), from epoch to epoch as in You et al., "Max-Affine Spline Insights Into Deep
    Network Pruning" (TMLR 2022).
    """
    require_same_operators(a, b, "b")
    require_same_batch(a.batch, b.batch)
    return {name: _share_of_changes(a[name], b[name]) for name in a}


def _share_of_changes(a: PackedCodes, b: PackedCodes) -> torch.Tensor:
    changed = np.zeros(len(a))
    if a.bits_per_sample:
        for block in slices(len(a), _BLOCK_BYTES // a.bits_per_sample):
            # A unit has another code where any of its bits differs.
            differs = np.bitwise_or.reduce(a.packed[block].numpy() ^ b.packed[block].numpy(), axis=1)
            changed[block] = np.unpackbits(differs, axis=1).sum(axis=1) / a.unit_count
    return torch.from_numpy(changed)


@dataclass(frozen=True, eq=False, repr=False)
class Drift(Tabular):
    """The code distances between E moments of a network, on the same inputs; made by `code_drift`."""

    operators: tuple[str, ...]  # names of the L operators
    # (L, E, E) float64 in [0, 1]: at moments e and e', the share of the operator's units that have another code,
    # averaged over the inputs.
    distances: torch.Tensor

    @property
    def moments(self) -> int:
        """Number of moments E."""
        return self.distances.shape[1]

    @property
    def steps(self) -> torch.Tensor:
        """Distance from each moment to the next, (L, E - 1)."""
        return self.distances.diagonal(offset=1, dim1=1, dim2=2)

    @property
    def to_last(self) -> torch.Tensor:
        """Distance from each moment to the last, (L, E)."""
        return self.distances[:, :, -1]

    def settled(self, tolerance: float = 0.05) -> dict[str, int]:
        """The first moment, by operator, from which on its codes are within a distance of those at the last moment."""
        if not 0 <= tolerance <= 1:
            raise BadInput(f"tolerance: {tolerance} is outside [0, 1]; give a share of the units")
        far = self.to_last > tolerance
        # One past the last moment that is far; the last moment itself never is.
        first = (far * torch.arange(1, self.moments + 1)).amax(dim=1)
        return dict(zip(self.operators, first.tolist(), strict=True))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        to: str = "last",
        cmap: str | Colormap | None = None,
        linewidth: float = 1.2,
        size: float = 6.5,
    ) -> Axes:
        """Draw, operator by operator, how far the codes of each moment are from those of the last or of the next one.

        The operators run from dark at the input to bright at the output. The axis is logarithmic, so a distance of 0 is
        left out.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            to: ``"last"`` or ``"next"``.
            cmap: A color map of matplotlib for the operators, of which the last tenth is left out; viridis by default.
            linewidth: Of the curves, in points.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: ``to`` is something else.
            MaxAffineError: matplotlib is absent.
        """
        if to not in ("last", "next"):
            raise BadInput(f"to: {to!r} is neither 'last' nor 'next'; choose one")
        ax, colors = axes_for(ax, 6.5, 3.6, sheet=False, size=size), color_map(cmap, "viridis")
        # The last moment is at distance 0 from itself.
        found = self.steps if to == "next" else self.to_last[:, :-1]
        count = len(self.operators)
        named = {round(place * (count - 1) / max(1, NAMED - 1)) for place in range(NAMED)} if count > NAMED else None
        for place, (name, distances) in enumerate(zip(self.operators, found, strict=True)):
            # A space, for a name that begins with an underscore would be hidden from the legend.
            label = f" {name}" if named is None or place in named else None
            color = colors(0.9 * place / max(1, count - 1))
            shown = torch.where(distances > 0, distances, torch.nan)
            ax.plot(range(self.moments - 1), shown.tolist(), color=color, marker=".", linewidth=linewidth, label=label)
        ax.set_yscale("log")
        ax.set_title("to the last moment" if to == "last" else "to the next moment", fontsize=10)
        ax.set_xlabel("moment")
        ax.set_ylabel("share of units with another code")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return ax

    def to_json(self) -> str:
        """Every number as JSON: ``operators`` and ``distances``."""
        return json.dumps({"operators": self.operators, "distances": self.distances.tolist()}, allow_nan=False)

    def _title(self) -> str:
        return f"Drift: {len(self.operators)} operators at {self.moments} moments (share of units with another code)"

    def _table(self) -> list[tuple[str, ...]]:
        settled = self.settled()
        rows = [("operator", "1st step", "last step", "first to last", "settled")]
        for name, steps, to_last in zip(self.operators, self.steps.tolist(), self.to_last.tolist(), strict=True):
            rows.append((name, f"{steps[0]:.4f}", f"{steps[-1]:.4f}", f"{to_last[0]:.4f}", str(settled[name])))
        return rows


def code_drift(moments: Sequence[Codes], progress: bool | None = None) -> Drift:
    """Measure how far the codes of the same inputs are apart between any two moments of training.

    d_l(e, e') = mean over the inputs n of #{k : q_l(x_n)_k at e != q_l(x_n)_k at e'} / K_l

    Args:
        moments: Codes of the same inputs in the same order, of networks of one architecture; at least two.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The distances.

    Raises:
        BadInput: Fewer than two moments, no input or no operator, or the operators or the numbers of inputs differ.

    Example:
        >>> before, after = (Codes.from_tensors({"relu": (torch.tensor([q]), 2)}) for q in ([0, 1, 1, 0], [0, 1, 1, 1]))
        >>> code_drift([before, after, after]).steps
        tensor([[0.2500, 0.0000]], dtype=torch.float64)

    Source: the mask distance between epochs of You et al., "Max-Affine Spline Insights Into Deep Network Pruning" (TMLR
    2022), taken of the codes themselves.
    """
    if len(moments) < 2:
        raise BadInput(f"moments: {len(moments)} of them; give the codes at two moments at least")
    first = moments[0]
    if first.batch == 0 or not len(first):
        raise BadInput("moments: they hold no input or no operator; give the codes of at least one of each")
    distances = torch.zeros(len(first), len(moments), len(moments), dtype=torch.float64)
    pairs = list(combinations(range(len(moments)), 2))
    for i, j in progress_bar(progress, "distances", iterable=pairs, unit="pair"):
        changes = code_changes(moments[i], moments[j])
        # Symmetric, and 0 on the diagonal.
        distances[:, i, j] = distances[:, j, i] = torch.stack([share.mean() for share in changes.values()])
    return Drift(tuple(first), distances)
