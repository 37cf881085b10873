"""The audit of a network: which of its units are idle, affine or redundant, and what each adds to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import Tabular, axes_for
from maxaffine._partition import value_ranges
from maxaffine._pruning.boundaries import RHO
from maxaffine._pruning.changes import Edit, changes
from maxaffine._pruning.counting import count
from maxaffine._pruning.findings import KINDS, Evidence, Finding, findings
from maxaffine._pruning.layers import Layer, batches, layers_of, rows_of
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 128
NEAR = 0.02
# Of parameters that were rounded to the network's type once or twice.
ROUNDINGS = 16
COLORS = {"never": "#b2182b", "always": "#2166ac", "duplicate": "#e08214", "near": "#fdd49e", "rest": "#d9d9d9"}


@dataclass(frozen=True)
class LayerAudit:
    """What was found of one layer.

    Attributes:
        name: Of its activation.
        units: Its channels.
        positions: Of a map, at each of which a channel acts; 1 without.
        joined: Whether what it acts on joins several values, as a sum over a skip connection does: its units cannot
            be removed one by one, for the other summand goes through them too.
        findings: Unit by unit, sorted by kind.
    """

    name: str
    units: int
    positions: int
    joined: bool
    findings: tuple[Finding, ...]

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of a kind."""
        return tuple(found for found in self.findings if found.kind == kind)

    @property
    def dead(self) -> bool:
        """Whether every unit is idle, so that what it gives does not depend on what comes before."""
        return len(self.of("never")) == self.units

    @property
    def largest_change(self) -> float:
        """The largest change of an output when one never active unit is held, or one duplicate merged."""
        rows = [found.largest_change for found in (*self.of("never"), *self.of("duplicate"))]
        return max(rows, default=float("nan"))


@dataclass(frozen=True, repr=False)
class Audit(Tabular):
    """What was found of the units of every layer; made by :func:`audit`.

    Attributes:
        layers: In running order.
        samples: Inputs that it rests on.
        bounded: Whether what holds over a box was asked; its findings then say so in ``proved``.
        complete: Whether the bounds were found in time; without them nothing is proved.
    """

    layers: tuple[LayerAudit, ...]
    samples: int
    bounded: bool
    complete: bool

    def __getitem__(self, name: str) -> LayerAudit:
        """The layer whose activation has this name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise BadInput(f"name: no layer is called {name!r}; there are {[layer.name for layer in self.layers]}")

    def to_dict(self) -> dict[str, Any]:
        """Every number by name, layer by layer; what is not known is None."""
        layers = [
            asdict(layer) | {"findings": [_plain(asdict(found)) for found in layer.findings]} for layer in self.layers
        ]
        return {"samples": self.samples, "bounded": self.bounded, "complete": self.complete, "layers": layers}

    def plot(self, ax: Axes | None = None, *, size: float | None = None) -> Axes:
        """Draw for each layer the shares of its units that were found never or always active, or redundant.

        Args:
            ax: Where to draw; axes of a new figure by default.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """  # noqa: DOC502
        ax = axes_for(ax, 6.5, 1.2 + 0.32 * len(self.layers), sheet=False, size=size)
        left = np.zeros(len(self.layers))
        for kind, color in COLORS.items():
            shares = np.array([self._count(layer, kind) / layer.units for layer in self.layers])
            ax.barh(range(len(self.layers)), shares, left=left, color=color, label=WORDS[kind], height=0.7)
            left = left + shares
        ax.set_yticks(range(len(self.layers)), [f"{layer.name} ({layer.units})" for layer in self.layers], fontsize=8)
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of units")
        ax.legend(fontsize=8, ncols=len(COLORS), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        return ax

    @staticmethod
    def _count(layer: LayerAudit, kind: str) -> int:
        if kind != "rest":
            # A unit that is affine and merged with another as well counts as affine.
            affine = {found.unit for found in layer.of("always")}
            return len({f.unit for f in layer.of(kind)} - (affine if kind in ("duplicate", "near") else set()))
        return layer.units - len({f.unit for k in COLORS for f in layer.of(k)})

    def _title(self) -> str:
        dead = [layer.name for layer in self.layers if layer.dead]
        idle = (
            f"; every unit of {', '.join(dead)} is idle: what it gives does not depend on these inputs" if dead else ""
        )
        box = "" if not self.bounded else ", of them proved over the box in brackets"
        late = "; the bounds took longer than time_limit" if not self.complete else ""
        return f"Audit on {self.samples} inputs: units by what was found of them{box}{late}{idle}"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [("layer", "units", *(WORDS[kind] for kind in KINDS), "largest change", "")]
        for layer in self.layers:
            counts = [self._cell(layer.of(kind), kind) for kind in KINDS]
            largest = layer.largest_change
            change = "" if np.isnan(largest) else f"{largest:.2g}"
            joined = "joins several values" if layer.joined else ""
            rows.append((layer.name, str(layer.units), *counts, change, joined))
        return rows if any(layer.joined for layer in self.layers) else [row[:-1] for row in rows]

    def _cell(self, found: tuple[Finding, ...], kind: str) -> str:
        asked = self.bounded and kind in ("never", "always")
        return f"{len(found)} ({sum(bool(f.proved) for f in found)})" if asked else str(len(found))


WORDS = {
    "never": "never active",
    "always": "always active",
    "duplicate": "duplicate",
    "opposite": "opposite",
    "near": "near",
    "rest": "the others",
}


@torch.autocast("cpu", enabled=False)
def audit(
    net: SplineNetwork,
    data: Any,
    bounds: Any = None,
    *,
    rho: float = RHO,
    near: float = NEAR,
    every: bool = False,
    time_limit: float | int = 60,
    progress: bool | None = None,
) -> Audit:
    r"""Which units of a network are idle, affine or redundant on data, and what removing each would change.

    A unit is a channel of an activation: never active when all its positions are. Two boundaries are as far apart as

    .. math:: d(k, k') = 1 - |\cos(w_k, w_{k'})| + \rho \, | b_k / |w_k| - s \, b_{k'} / |w_{k'}| |

    with w_k x + b_k what the unit acts on, batch-norm folded in, at the middle position of a map, and s the sign of
    the cosine. What removing changes is found by the network itself, in its own type: one that is never active is held
    at its constant, one that is always active at its affine piece, a duplicate or a near one at a multiple of the unit
    that it is like, each alone.

    Args:
        net: The network, piecewise affine.
        data: Inputs as at capture, or a loader of batches (inputs, or inputs first and labels after them).
        bounds: (low, high) of every feature of the inputs, numbers or one per feature, finite: what holds for every
            input between them is proved then, in exact arithmetic with the network's parameters, by bounds that are
            rounded outward.
        rho: Weight of the boundaries' places against their directions.
        near: Pairs of units of one direction count as near up to this distance of their boundaries, or this share of
            differing codes.
        every: Whether also what each other unit adds is found: its value held at its mean on the data.
        time_limit: Seconds for the bounds; without enough nothing is proved, and it is said.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The findings.

    Raises:
        BadInput: For a network without activations, empty or bad data, or bad bounds.
        NotPiecewiseAffine: For a smooth network; with bounds, for an operator that jumps.
        MaxAffineError: With bounds, when scipy is absent.

    Example:
        >>> import torch, maxaffine as ma
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0], [1.0, 0.5]]))
        ...     _ = model[0].bias.copy_(torch.tensor([0.0, -9.0, 9.0]))
        >>> found = audit(ma.capture(model, torch.zeros(1, 2)), torch.rand(50, 2), bounds=(0, 1))
        >>> [(one.unit, one.kind, one.proved, one.largest_change) for one in found.layers[0].findings[:2]]
        [(1, 'never', True, 0.0), (2, 'always', True, 0.0)]

    Source: You et al., "Max-Affine Spline Insights Into Deep Network Pruning" (TMLR 2022), for the distance between
    boundaries, there without the sign s; bounds by Zhang et al. (CROWN, NeurIPS 2018).
    """  # noqa: DOC502
    if not (rho >= 0 and 0 <= near < np.inf):
        raise BadInput(f"rho, near: expected numbers of at least 0, got {rho!r} and {near!r}")
    layers_of(net)
    inputs = batches(net, data, BATCH)
    known, samples, complete = evidence_of(net, inputs, bounds, time_limit, progress, rounding(net))
    found = [findings(one, rho, near, every) for one in known]
    pairs = [(one.layer, item) for one, items in zip(known, found, strict=True) for item in items]
    edits = [_edit(layer, item) for layer, item in pairs if item.kind != "opposite"]
    moved = iter(changes(net, edits, inputs, progress))
    layers = [
        _result(one.layer, [item if item.kind == "opposite" else _with(item, next(moved)) for item in items])
        for one, items in zip(known, found, strict=True)
    ]
    return Audit(tuple(layers), samples, bounds is not None, complete)


def rounding(net: SplineNetwork) -> float:
    """The epsilon of a network's type."""
    return max(torch.finfo(dtype).eps for dtype in net.inputs.dtypes if dtype.is_floating_point)


def evidence_of(
    net: SplineNetwork,
    data: Iterable[tuple[Tensor, ...]],
    bounds: Any,
    time_limit: float | int,
    progress: bool | None,
    eps: float,
) -> tuple[list[Evidence], int, bool]:
    """What is known of every layer's units, the number of inputs, and whether the bounds were found in time."""
    layers = layers_of(net)
    box = None
    if bounds is not None:
        box = value_ranges(net, [layer.argument for layer in layers], bounds, time_limit)
    activities, samples = count(net, layers, data, progress)
    tolerance = ROUNDINGS * eps
    known = [
        Evidence(layer, activity, rows_of(net, layer), tolerance, None if box is None else box[layer.argument])
        for layer, activity in zip(layers, activities, strict=True)
    ]
    return known, samples, bounds is None or box is not None


def _edit(layer: Layer, found: Finding) -> Edit:
    return Edit(layer, found.unit, found.other, found.factor, found.shift)


def _with(found: Finding, change: Tensor) -> Finding:
    return replace(found, change=tuple(change.tolist()))


def _result(layer: Layer, found: list[Finding]) -> LayerAudit:
    return LayerAudit(layer.record.name, layer.channels, layer.positions, layer.joined, tuple(found))


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON has: none for what is not known."""
    known: Callable[[Any], Any] = lambda v: None if isinstance(v, float) and not np.isfinite(v) else v  # noqa: E731
    return {name: [known(item) for item in v] if isinstance(v, tuple) else known(v) for name, v in found.items()}
