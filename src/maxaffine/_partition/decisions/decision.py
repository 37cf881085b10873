"""The nearest input at which another class draws level, proved, or an interval for its distance."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import prod
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maxaffine._capture import SplineNetwork
from maxaffine._drawing import Panel, panel_axes, require
from maxaffine._network import require_classes, rerun
from maxaffine._partition.decisions.domain import Domain
from maxaffine._partition.decisions.program import program_of
from maxaffine._partition.decisions.question import Question, Witness
from maxaffine._partition.decisions.rows import Rows
from maxaffine._partition.decisions.search import Search
from maxaffine._partition.inputs import ends, one_input, seconds
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, ExactnessError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


@dataclass(frozen=True, eq=False)
class NearestDecision:
    """The nearest input of another class, and what is proved of its distance; made by :func:`nearest_decision`.

    Attributes:
        x: The input that was asked about, in float64, as the network takes it.
        point: The nearest input found at which ``rival`` draws level, likewise; None where none was found.
        own: The class of x.
        rival: The class of the point; None without one.
        distance: From x to the point; infinite without one.
        lower_bound: No input that is allowed and nearer than this is of another class. It is computed from multipliers
            that prove it, rounded outward, in which no tolerance of a solver has a part.
        proved: Whether both are equal up to a relative 1e-6; without a point, whether there is none within the bounds.
        margin: How far the rival's logit is above the own at the point: a hair, so that rounding does not undo it;
            or 0, at a tie beyond which nothing is found, as on a plateau or between whole numbers, where ``argmax``
            gives the lower class.
        norm: 1 or infinity.
        open_units: Comparisons that the first bounds left open.
        parts: Parts of the inputs that were looked into.
    """

    x: Any
    point: Any
    own: int
    rival: int | None
    distance: float
    lower_bound: float
    proved: bool
    margin: float
    norm: float
    open_units: int
    parts: int
    net: SplineNetwork = field(repr=False)
    output: int = field(repr=False)

    @property
    def change(self) -> Any:
        """What was added to x, as the network takes it; None without a point."""
        if self.point is None:
            return None
        pairs = zip(tree_leaves(self.point), tree_leaves(self.x), strict=True)
        return self.net.inputs.nest([after - before for after, before in pairs])

    def verify(self, model: nn.Module) -> float:
        """Run the user's untouched module at x and at the point, in float64 (on a copy).

        Args:
            model: The module that was captured.

        Returns:
            The rival's logit less the own at the point.

        Raises:
            BadInput: Without a point.
            ExactnessError: When the module does not change its class, or has another at x.
        """
        if self.point is None:
            raise BadInput("verify: no other class was found, so there is no point to run the module at")
        run = rerun(self.net, deepcopy(model).double())
        before, after = (
            _logits(run(tuple(self.net.inputs.tensors(item)))[self.output].detach()[:1])
            for item in (self.x, self.point)
        )
        margin = float(after[0, self.rival] - after[0, self.own])
        if int(before[0].argmax()) != self.own or margin < 0:
            raise ExactnessError(
                f"nearest_decision: the module has class {int(before[0].argmax())} at x, and class {self.rival} is"
                f" {margin:.3g} above class {self.own} at the point; check the capture: net.verify(model, x)"
            )
        return margin

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name; inputs as nested lists, one for each input of the network."""
        names = ("own", "rival", "distance", "lower_bound", "proved", "margin", "norm", "open_units", "parts")
        found = {name: getattr(self, name) for name in names}
        pairs = {"x": self.x, "point": self.point, "change": self.change}
        rows = {
            name: None if item is None else [leaf[0].tolist() for leaf in tree_leaves(item)]
            for name, item in pairs.items()
        }
        return found | rows

    def plot(
        self,
        ax: Axes | None = None,
        item: int = 0,
        *,
        share: float = 1.0,
        cmap: str | Colormap | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw x, what is added to it, and the point: pictures, lines or bars.

        Args:
            ax: Where to draw; axes of a new figure by default.
            item: Which input, where there are several.
            share: Share of the change's values that lie within its colors.
            cmap: A diverging color map of matplotlib for the change.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            BadInput: Without a point, when there is no such input, or when it has no plain picture.
            MaxAffineError: When matplotlib is absent.
        """
        if self.point is None:
            raise BadInput("plot: no other class was found, so there is nothing to draw")
        leaves = [tree_leaves(of) for of in (self.x, self.change, self.point)]
        if not 0 <= item < len(leaves[0]):
            raise BadInput(f"item: there are {len(leaves[0])} inputs, got {item}")
        x, change, point = (of[item][0].cpu().numpy() for of in leaves)
        panels = [
            Panel(x, f"class {self.own}", "input"),
            Panel(change, f"change, {self._length}"),
            Panel(point, f"class {self.rival}", "input"),
        ]
        return panel_axes(ax, [panels], share, cmap=cmap, size=size)

    @property
    def _length(self) -> str:
        name = "L1" if self.norm == 1 else "L-infinity"
        return f"{name} {self.distance:.4g}"

    def __repr__(self) -> str:
        within = f"NearestDecision: from class {self.own}"
        if self.rival is None:
            if self.proved:
                return f"{within} no other class is reached within the bounds (proved)"
            return f"{within} no other class was found; none is nearer than {self.lower_bound:.4g}"
        known = ("a tie, " if self.margin == 0 else "") + (
            "proved" if self.proved else f"at least {self.lower_bound:.4g}"
        )
        return f"{within} to {self.rival} at {self._length} ({known})"


def nearest_decision(
    net: SplineNetwork,
    x: Any,
    *,
    norm: float | int = np.inf,
    bounds: Any = (0, 1),
    fixed: Any = None,
    integers: Any = None,
    target: int | None = None,
    output: int | str | None = None,
    time_limit: float | int = 60,
    progress: bool | None = None,
) -> NearestDecision:
    """The smallest change of an input that makes another class at least tie.

    min |x' - x| over all x' within the bounds with f_r(x') >= f_c(x') for some class r other than the class c of x,
    f the network's logits (of a single logit the classes are 0 and 1, which it is above zero). Branch and bound
    over the units whose piece the bounds leave open; the bounds are those of linear relaxations.

    Args:
        net: The network. One captured in another type is computed in float64.
        x: One input, as at capture (a batch of one; also in float64).
        norm: Of the change: ``inf``, the largest of all features', or 1, their sum.
        bounds: (low, high) of every feature, numbers or one per feature, in units of the input; may be infinite.
        fixed: Features that may not change: flat numbers, or a mask of all features.
        integers: Features that take whole numbers only, likewise.
        target: The only class that counts as another; any by default.
        output: Which output, by number or name, for a network with several.
        time_limit: Seconds after which the interval known by then is returned.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The nearest point, its class, its distance and a lower bound of all distances.

    Raises:
        BadInput: For bad arguments, and where the output is not of classes.
        NotPiecewiseAffine: For a smooth network, and for an operator that jumps.
        MaxAffineError: When scipy is absent.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.Linear(2, 2, bias=False), torch.zeros(1, 2))
        >>> eye = torch.nn.Linear(2, 2, bias=False)
        >>> eye.weight.data = torch.eye(2)
        >>> found = ma.partition.nearest_decision(ma.capture(eye, torch.zeros(1, 2)), torch.tensor([[0.75, 0.25]]))
        >>> found.rival, round(found.distance, 6), found.proved
        (1, 0.25, True)

    Source: Tjeng, Xiao and Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer Programming" (ICLR
    2019); bounds by Zhang et al. (CROWN, NeurIPS 2018) and Wang et al. (beta-CROWN, NeurIPS 2021).
    """
    require("nearest_decision", ("scipy",), "partition")
    deadline = monotonic() + seconds(time_limit)
    like = one_input(net, x, "x")
    net, place = net.double(), net.output_place(output)
    number = net.graph.outputs[place]
    instead = "integrated_gradients() says what a value is made of"
    require_classes(net.task_at(number), "nearest_decision", instead)
    if not all(item.is_floating_point() for item in like):
        raise BadInput("net: one of its inputs is not floating point; capture the part after it: net.part(after=...)")
    asked = _Asked(net, place, like)
    question = asked.question(norm, bounds, fixed, integers, target)
    if question.tie is not None:
        return asked.answer(question, question.tie, 0.0, True)
    search = Search(question, deadline)
    with progress_bar(progress, "decision", unit="part") as bar:
        try:
            search.run(bar)
        except KeyboardInterrupt:
            warnings.warn("interrupted: what is known so far is returned", stacklevel=2)
    return asked.answer(question, search.best, search.lower, search.proved, search.opened, search.parts)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A network in float64 and an input, as a question and back."""

    net: SplineNetwork
    place: int  # of the output
    like: tuple[Tensor, ...]  # x, one tensor for each input

    @property
    def x(self) -> np.ndarray:
        """All features of x."""
        graph = self.net.graph
        rows = [graph.values[n].to_rows(item) for n, item in zip(graph.inputs, self.like, strict=True)]
        return torch.cat(rows, 1)[0].cpu().numpy()

    def inputs(self, points: np.ndarray) -> list[Tensor]:
        """Points (points, features) as inputs of the network."""
        graph, rows = self.net.graph, torch.as_tensor(points).to(self.net.inputs.device)
        parts = rows.split([prod(graph.values[number].units) for number in graph.inputs], 1)
        return [graph.values[n].from_rows(part).contiguous() for n, part in zip(graph.inputs, parts, strict=True)]

    def logits(self, points: np.ndarray) -> np.ndarray:
        """Logits (points, classes) by the network itself."""
        outputs = tree_leaves(self.net(self.net.inputs.nest(self.inputs(points))))
        value = self.net.graph.values[self.net.graph.outputs[self.place]]
        return _logits(value.to_rows(outputs[self.place])).cpu().numpy()

    def question(self, norm: float | int, bounds: Any, fixed: Any, integers: Any, target: int | None) -> Question:
        """The question, its arguments checked."""
        x = self.x
        if isinstance(norm, bool) or norm not in (1, np.inf):
            raise BadInput(
                f"norm: it is 1 or infinity, for which the problem is linear, got {norm!r}; float('inf') is the largest"
                " change of a feature, and its lower bound holds in norm 2 as well"
            )
        low, high = _box(bounds, x)
        held, whole = _features(fixed, len(x), "fixed"), _features(integers, len(x), "integers")
        if (x[whole] != np.round(x[whole])).any():
            raise BadInput("integers: x itself holds other numbers there; name features that are whole in x")
        low, high = np.where(held, x, low), np.where(held, x, high)
        low[whole], high[whole] = np.ceil(low[whole]), np.floor(high[whole])
        (logits,) = self.logits(x[None])
        own = int(logits.argmax())
        near = np.maximum(low, x - 10 * (1 + np.abs(x))), np.minimum(high, x + 10 * (1 + np.abs(x)))
        program = program_of(self.net, [self.net.graph.outputs[self.place]], x, *near)
        if len(program.outputs) == 1:  # one logit, against zero
            zero = program.outputs.times(np.zeros(1))
            program = replace(program, outputs=Rows.stack([zero, program.outputs]))
        scale = float(np.abs(logits[np.isfinite(logits)]).max(initial=0)) or 1.0
        # What a mask has put at infinity is never reached.
        rivals = np.array([c for c in range(len(logits)) if c != own and np.isfinite(program.outputs.offsets[c])], int)
        if target is not None:
            if isinstance(target, bool) or not isinstance(target, int | np.integer) or target not in rivals:
                raise BadInput(f"target: x is of class {own}, and its rivals are {rivals.tolist()}; got {target!r}")
            rivals = np.array([target])
        if not len(rivals):
            raise BadInput("net: it has no second class")
        return Question(program, Domain(x, low, high, float(norm)), own, rivals, whole, self.logits, scale)

    def answer(
        self, question: Question, best: Witness | None, lower: float, proved: bool, opened: int = 0, parts: int = 0
    ) -> NearestDecision:
        """What was found, in the network's terms."""
        nest = self.net.inputs.nest
        point, rival, distance, margin = None, None, np.inf, -np.inf
        if best is not None:
            point, rival = nest(self.inputs(best.point[None])), best.rival
            distance, margin = best.distance, best.margin
        known = (question.own, rival, distance, lower, proved, margin, question.domain.norm, opened, parts)
        return NearestDecision(nest(self.like), point, *known, self.net, self.place)


def _logits(rows: Tensor) -> Tensor:
    """A logit for each class, (rows, classes): of a single one that of the other class is zero."""
    rows = rows.reshape(len(rows), -1)
    return torch.cat([torch.zeros_like(rows), rows], 1) if rows.shape[1] == 1 else rows


def _box(bounds: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bound of every feature."""
    low, high = ends(bounds, len(x))
    if not (low <= high).all():
        place = int((~(low <= high)).argmax())
        raise BadInput(f"bounds: of feature {place}, {low[place]:g} is not at most {high[place]:g}; give (low, high)")
    if not ((low <= x) & (x <= high)).all():
        place = int((~((low <= x) & (x <= high))).argmax())
        raise BadInput(
            f"bounds: feature {place} of x is {x[place]:g}, outside ({low[place]:g}, {high[place]:g}); give the bounds"
            " of the data, (-inf, inf) for none"
        )
    return low, high


def _features(given: Any, count: int, name: str) -> np.ndarray:
    """A mask (count,) of the features that are named by number or by a mask."""
    found = np.zeros(count, dtype=bool)
    if given is None:
        return found
    try:
        chosen = torch.as_tensor(given).cpu().numpy().reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        chosen = np.full(1, np.nan)
    if chosen.dtype == bool and len(chosen) == count:
        return chosen
    if (
        chosen.dtype == bool
        or len(chosen)
        and not (np.issubdtype(chosen.dtype, np.integer) and (0 <= chosen).all() and (chosen < count).all())
    ):
        raise BadInput(f"{name}: expected numbers of features in 0..{count - 1} or a mask of {count}, got {given!r}")
    found[chosen.astype(int)] = True
    return found
