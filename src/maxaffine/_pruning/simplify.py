"""A smaller module that gives the same outputs on data: units taken out of it where that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import SplineNetwork, capture
from maxaffine._drawing import Tabular, require
from maxaffine._graph import undisturbed
from maxaffine._network import FAILURES, copy_module
from maxaffine._partition import value_ranges
from maxaffine._pruning.audit import BATCH, evidence_of, rounding
from maxaffine._pruning.boundaries import RHO
from maxaffine._pruning.findings import Evidence, Finding, findings
from maxaffine._pruning.layers import batches
from maxaffine._pruning.surgery import (
    KeptError,
    Surgeon,
    add_constants,
    check_way,
    constants_of,
    fold,
    merge,
    weighted_module,
)
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput, CaptureError, ExactnessError, first_line

EXACT = 1e-9  # relative to the largest output, in float64: what rounding leaves of an exact removal
FEW = 64  # inputs on which a module is captured
ROUNDED = 256.0  # epsilons of the module's own type that another order of its sums may make


@dataclass(frozen=True)
class Removal:
    """Units that were removed from one layer, or that stay although the data lets them go.

    Attributes:
        layer: Name of the activation.
        kind: ``"never"`` active, ``"duplicate"`` of another, or ``"always"`` active and folded together.
        units: Their channels, in the module that was given.
        kept: Why they stay; empty where they were removed.
        everywhere: Whether the outputs are the same at every input there is, also outside data and bounds.
    """

    layer: str
    kind: str
    units: tuple[int, ...]
    kept: str = ""
    everywhere: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Simplified(Tabular):
    """A smaller module, and what was taken out of it; made by :func:`simplify`.

    Attributes:
        model: An ordinary module of the same classes, in the modes, types and on the device of the one given.
        removals: What was removed, and what stays and why, layer by layer.
        parameters: Numbers in the parameters before and after.
        samples: Inputs on which both were compared.
        bounds: The box over which it is proved; None where it rests on the data alone.
        difference: The largest difference of an output on the data, in float64, relative to the largest output.
    """

    model: nn.Module
    removals: tuple[Removal, ...]
    parameters: tuple[int, int]
    samples: int
    bounds: Any
    difference: float

    @property
    def removed(self) -> int:
        """How many units were removed."""
        return sum(len(one.units) for one in self.removals if not one.kept)

    @property
    def holds(self) -> str:
        """Where the outputs are the same."""
        if all(one.everywhere for one in self.removals if not one.kept):
            return "at every input"
        if self.bounds is not None:
            return "at every input within the bounds (proved), and maybe not outside"
        return f"on the {self.samples} inputs given, and maybe not where a removed unit would change its piece"

    def verify(self, model: nn.Module, x: Any, *, raises: bool = True) -> float:
        """Compare the smaller module with the untouched one on inputs, in evaluation mode, in their own type.

        Args:
            model: The module that was given.
            x: Inputs as it takes them: a tensor, a tuple of tensors or a dict of tensors.
            raises: Whether a difference beyond rounding is an error.

        Returns:
            The largest difference of an output, relative to the largest output.

        Raises:
            ExactnessError: Beyond rounding: outside the data and the bounds a removed unit may have been active.
        """
        names = tuple(x) if isinstance(x, dict) else ()
        inputs = tuple(x.values()) if isinstance(x, dict) else tuple(x) if isinstance(x, tuple | list) else (x,)
        with evaluating(model), evaluating(self.model):
            before, after = (_run(module, inputs, names) for module in (model, self.model))
        found = max((_apart(a, b) for a, b in zip(before, after, strict=True)), default=0.0)
        eps = max(torch.finfo(item.dtype).eps for item in before)
        if raises and not found <= ROUNDED * eps:
            raise ExactnessError(
                f"simplify: the smaller module differs by {found:.3g} of the largest output on these inputs. It is the"
                f" same {self.holds}; give simplify these inputs too, or bounds that hold them"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """What was done, by name."""
        names = ("layer", "kind", "units", "kept", "everywhere")
        removals = [{name: getattr(one, name) for name in names} for one in self.removals]
        plain = {name: getattr(self, name) for name in ("parameters", "samples", "difference", "holds")}
        return plain | {"removed": self.removed, "removals": removals}

    def _title(self) -> str:
        before, after = self.parameters
        share = f"{self.removed} units removed, {before:,} parameters become {after:,}"
        return f"Simplified: {share}; the outputs are the same {self.holds} (relative difference {self.difference:.1e})"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [("layer", "units", "found", "what became of them")]
        words = {"never": "never active", "duplicate": "duplicate", "always": "always active"}
        done = {"never": "removed", "duplicate": "merged", "always": "folded together"}
        for one in self.removals:
            rows.append((one.layer, str(len(one.units)), words[one.kind], one.kept or done[one.kind]))
        return rows


@torch.autocast("cpu", enabled=False)
@torch.inference_mode(False)
def simplify(
    model: nn.Module,
    data: Any,
    bounds: Any = None,
    *,
    time_limit: float | int = 60,
    progress: bool | None = None,
) -> Simplified:
    """A smaller module that gives the same outputs on the data, and over a box where bounds prove it.

    Three things are exact, up to the rounding of sums in another order:

    - a unit on one flat piece at every input (a ReLU that is never active), or without weights, is removed, and what it
      gave is added to the offsets of what follows;
    - of units that are positive multiples of each other, as far as the type of the parameters can say, one is kept,
      with the sum of their outgoing weights;
    - of a linear layer right before a ReLU and another linear layer with C outputs, more than C units that are always
      active are replaced by C: f(x) = W_2 (W_1 x + b_1) over these units is C affine functions, which are shifted so
      that they stay positive, and the shift is taken off again.

    Everything else stays, and `removals` says why: units of a sum over a skip connection, of a shared module or one
    whose weights a function call uses, convolutions that pad a constant with zeros. Each removal is compared with the
    whole module on the data in float64, and undone where that does not agree. The smaller module's own training goes
    another way than the old one's would. One pass is made: what was removed may leave more to remove.

    Args:
        model: The module; it is left as it is, and judged in evaluation mode.
        data: Inputs as it takes them, or a loader of batches (inputs, or inputs first and labels after them).
        bounds: (low, high) of every feature, finite: then only what is proved for every input between them is removed.
            The data must lie within.
        time_limit: Seconds for the bounds.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The smaller module, and what was removed.

    Raises:
        BadInput: For a network without activations, bad data or bounds, data on which every unit of a layer is idle
            (the outputs do not depend on it there), or a time limit that was too short for the bounds.
        NotPiecewiseAffine: For a smooth network.
        MaxAffineError: When torch-pruning is absent.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, 0.5]]))
        ...     _ = model[0].bias.copy_(torch.tensor([0.0, -9.0, 0.1]))
        >>> found = simplify(model, torch.rand(50, 2), bounds=(0, 1))
        >>> found.model[0], found.removed
        (Linear(in_features=2, out_features=2, bias=True), 1)

    Source: torch-pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) removes the units.
    """  # noqa: DOC502
    require("simplify", ("torch_pruning",), "pruning")
    work = _Work(model, data, bounds, time_limit, progress)
    for evidence in work.known:
        found = findings(evidence, RHO, 0.0, False)
        for kind in ("never", "duplicate"):
            work.remove(evidence, kind, [one for one in found if one.kind == kind])
        work.fold(evidence, [one for one in found if one.kind == "always"])
    return work.result()


class _Work:
    """A copy of a module in float64 that becomes smaller, and what is known of the one that was given."""

    def __init__(
        self, model: nn.Module, data: Any, bounds: Any, time_limit: float | int, progress: bool | None
    ) -> None:
        self.given, self.bounds = model, bounds
        narrow = _captured(model, data)
        self.net = narrow.double()
        # Kept, for a loader may give them in another order the next time.
        self.inputs = [
            tuple(item.double() if item.is_floating_point() else item for item in tensors)
            for tensors in batches(narrow, data, BATCH)
        ]
        self.names = narrow.inputs.names if narrow.inputs.keyword else ()
        # Parameters that were rounded to the module's type may make a duplicate of it that float64 tells apart.
        self.rounding = rounding(narrow)
        self.known, self.samples, complete = evidence_of(
            self.net, self.inputs, bounds, time_limit, progress, self.rounding
        )
        if not complete:
            raise BadInput(f"time_limit: the bounds took longer than {time_limit} s; raise it, or give no bounds")
        if bounds is not None:
            _require_inside(self.net, self.inputs, bounds)
        self.smaller = copy_module(model, ()).double()
        for part in self.smaller.modules():  # an exported module has no eval()
            part.training = False
        try:
            self.before = self._outputs(self.smaller)
        except FAILURES as error:
            raise BadInput(f"model: it does not run in float64 ({first_line(error)}), where all is compared") from error
        self.now = self.before  # what the smaller module gives: each step is compared with the one before it
        self._require_alive()
        self.removals: list[Removal] = []
        self.alive = {one.layer.place: list(range(one.layer.channels)) for one in self.known}

    def _require_alive(self) -> None:
        """Refuse data on which a layer is idle as a whole, with nothing to lead around it."""
        outputs = [torch.cat([item.flatten() for item in of_batch]) for of_batch in zip(*self.before, strict=True)]
        dead = [one.layer.record for one in self.known if bool(one.idle.all())]
        rows = [item.reshape(self.samples, -1) for item in outputs if item.numel() % self.samples == 0]
        if dead and all(bool((item == item[:1]).all()) for item in rows):
            raise BadInput(
                f"data: every unit of {dead[0].name!r} (module {dead[0].module_path!r}) is idle on it, so the outputs"
                " do not depend on the input there; give data that the network is for"
            )

    def remove(self, evidence: Evidence, kind: str, found: Sequence[Finding]) -> None:
        """Remove the units of one layer that were found to be of a kind, or say why not."""
        # A layer needs a unit; and a constant other than zero may have to stay where zeros can go.
        found = found[:-1] if kind == "never" and len(found) == evidence.layer.channels else found
        for part in ([one for one in found if not one.shift], [one for one in found if one.shift]):
            self._remove(evidence, kind, part)

    def _remove(self, evidence: Evidence, kind: str, found: Sequence[Finding]) -> None:
        name = evidence.layer.record.name
        if open_units := [one.unit for one in found if self.bounds is not None and not one.proved]:
            self.removals.append(Removal(name, kind, tuple(open_units), "not proved over the bounds"))
        found = [one for one in found if self.bounds is None or one.proved]
        alive = self.alive[evidence.layer.place]

        def operate(surgeon: Surgeon, module: nn.Module) -> list[int]:
            at = [alive.index(one.unit) for one in found]
            into = [alive.index(one.other) for one in found if one.other is not None]
            site = surgeon.site(module, sorted({*at, *into}))
            scaled = any(one.factor != 1 for one in found) and kind == "duplicate"
            check_way(self.net, evidence.layer, self.inputs[0], kind, scaled)
            for consumer in site.consumers:
                if kind == "never":
                    constants = constants_of(consumer, lambda: self._outputs(surgeon.model))
                    add_constants(consumer, constants)
                for unit, other, one in zip(at, into, found, strict=False):
                    merge(consumer, unit, other, one.factor)
            return at

        everywhere = kind == "duplicate" or bool(evidence.empty[[one.unit for one in found]].all())
        self._attempt(evidence, kind, [one.unit for one in found], everywhere, operate)

    def fold(self, evidence: Evidence, found: Sequence[Finding]) -> None:
        """Fold the always active units of one layer together where that makes it smaller."""
        layer, activity, alive = evidence.layer, evidence.activity, self.alive[evidence.layer.place]
        proved = [one.unit for one in found if (self.bounds is None or one.proved) and one.unit in alive]
        units = [unit for unit in proved if int(activity.low[unit]) == len(layer.knots) and layer.scales]
        slopes = activity.slope[units].double()
        low, high = activity.least[units].double(), activity.most[units].double()
        if evidence.box is not None:
            low, high = (slopes[:, None] * layer.by_entry(side)[units] for side in evidence.box)
            low, high = low.amin(1), high.amax(1)

        def operate(surgeon: Surgeon, module: nn.Module) -> list[int]:
            at = [alive.index(unit) for unit in units]
            site = surgeon.site(module, at)
            fewest = min(len(consumer.module.weight) for consumer in site.consumers)
            if len(at) <= fewest:
                raise KeptError(f"{len(at)} are no more than the {fewest} outputs of what follows")
            check_way(self.net, layer, self.inputs[0], "always", False)
            return fold(site, at, slopes, low, high)

        self._attempt(evidence, "always", units, False, operate)

    def _attempt(
        self,
        evidence: Evidence,
        kind: str,
        units: Sequence[int],
        everywhere: bool,
        operate: Callable[[Surgeon, nn.Module], list[int]],
    ) -> None:
        """Operate on a copy, and go on with it only where it gives what the whole module gives."""
        if not units:
            return
        trial, alive, kept = copy_module(self.smaller, ()), self.alive[evidence.layer.place], ""
        gone: Sequence[int] = units
        try:
            module = weighted_module(trial, self.net, evidence.layer)
            surgeon = Surgeon(trial, self.inputs[0], self.names)
            places = operate(surgeon, module)
            gone = [alive[place] for place in places]
            surgeon.remove(module, places)
            outputs = self._outputs(trial)
            apart = _largest(self.now, outputs)
            if not apart <= (ROUNDED * self.rounding if kind == "duplicate" else EXACT):
                raise KeptError(f"without them the outputs differ by {apart:.2g} of the largest")
        except KeptError as reason:
            kept = str(reason)
        except FAILURES as error:  # of torch-pruning, or of a forward that asks for sizes
            kept = f"torch-pruning could not remove them ({first_line(error)})"
        else:
            self.smaller, self.now = trial, outputs
            alive[:] = [unit for unit in alive if unit not in gone]
        self.removals.append(Removal(evidence.layer.record.name, kind, tuple(gone), kept, everywhere))

    def _outputs(self, module: nn.Module) -> list[list[Tensor]]:
        with undisturbed(self.net.inputs.device):
            return [_run(module, tensors, self.names) for tensors in self.inputs]

    def result(self) -> Simplified:
        """The smaller module, as the one that was given in all that was not removed."""
        like = dict(self.given.named_parameters()) | dict(self.given.named_buffers())
        default = next((item.dtype for item in like.values() if item.is_floating_point()), torch.get_default_dtype())
        for name, item in [*self.smaller.named_parameters(), *self.smaller.named_buffers()]:
            before = like.get(name)
            item.data = item.data.to(default if before is None else before.dtype)
            if isinstance(item, nn.Parameter):
                item.requires_grad_(before is None or before.requires_grad)
        difference = _largest(self.before, self.now)
        modes = {name: module.training for name, module in self.given.named_modules()}
        for name, module in self.smaller.named_modules():
            module.training = modes[name]
        before, after = (sum(item.numel() for item in module.parameters()) for module in (self.given, self.smaller))
        return Simplified(self.smaller, tuple(self.removals), (before, after), self.samples, self.bounds, difference)


def _captured(model: nn.Module, data: Any) -> SplineNetwork:
    """The network, captured on a few inputs of the data."""
    with evaluating(model):
        if isinstance(data, Tensor | tuple | dict):
            try:
                net = capture(model, tree_map(lambda item: item[:FEW], data))
                net.inputs.tensors(data)
            except (CaptureError, BadInput):  # the samples lie along another axis, or the data is bad
                return capture(model, data)
            return net
        if not isinstance(data, Iterable) or iter(data) is data:
            raise BadInput("data: expected inputs or a loader that can be read twice; give a tensor or a DataLoader")
        item = next(iter(data), None)
        if item is None:
            raise BadInput("data: the loader gave no batch; give at least one input")
        if not isinstance(item, tuple | list):
            return capture(model, item)
        parts = list(item)
        try:  # labels come last, where there are any
            return capture(model, tuple(parts[:-1]) if len(parts) > 2 else parts[0])
        except CaptureError:
            return capture(model, tuple(parts))


def _require_inside(net: SplineNetwork, inputs: Iterable[tuple[Tensor, ...]], bounds: Any) -> None:
    # The ranges of the inputs themselves are the bounds, entry by entry.
    numbers = net.graph.inputs
    ranges = value_ranges(net, numbers, bounds) or {}
    for tensors in inputs:
        for number, item in zip(numbers, tensors, strict=True):
            rows = net.graph.values[number].to_rows(item).cpu()
            low, high = (torch.as_tensor(side) for side in ranges[number])
            slack = EXACT * (1 + high.abs() + low.abs())
            if ((rows < low - slack) | (rows > high + slack)).any():
                raise BadInput("bounds: some of the data lies outside; give bounds that hold it")


def _run(module: nn.Module, inputs: Sequence[Tensor], names: tuple[str, ...]) -> list[Tensor]:
    """The floating-point outputs of a module, its random state and the caller's left alone."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        copies = [item.clone() for item in inputs]
        found = module(**dict(zip(names, copies, strict=True))) if names else module(*copies)
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _largest(before: list[list[Tensor]], after: list[list[Tensor]]) -> float:
    """The largest difference over all batches and outputs."""
    pairs = [pair for a, b in zip(before, after, strict=True) for pair in zip(a, b, strict=True)]
    return max((_apart(a, b) for a, b in pairs), default=0.0)


def _apart(before: Tensor, after: Tensor) -> float:
    """The largest difference, relative to the largest output."""
    size = float(before.abs().max()) if before.numel() else 0.0
    gap = float((before - after).abs().max()) if before.numel() else 0.0
    return gap / size if size else gap
