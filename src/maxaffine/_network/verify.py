"""The exactness check: the spline form against the user's untouched module."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maxaffine._graph import BatchAxis, Linearization, Value, as_rows, as_tuple, refuse_overflow
from maxaffine._network.detached import detach_gates
from maxaffine._network.network import Network
from maxaffine._network.rerun import Rerun, rerun
from maxaffine._network.rounding import (
    difference,
    origin,
    relative_error,
    rounding_bound,
    scales,
    size,
    terms,
    without_infinities,
)
from maxaffine.errors import BadInput, ExactnessError, first_line


@dataclass(frozen=True)
class ExactnessReport:
    """How far the spline form and the user's module are apart, relative to the size of the terms involved.

    Terms are the results themselves and, where these are small because larger ones cancelled on the way, those: the
    largest, over all values l inside the network, of the root of the sum of squares of (weight of l in the result) * l.

    Attributes:
        output: max |net(x) - model(x)|, relative to each sample's terms: the frozen graph against the module.
        affine: max |A x + b - model(x)|: the affine map, its offset found on its own, against the module.
        split: max |sum of offset contributions - b|, seen through one random weighting of the outputs.
        jacobian: max |A^T u - autograd's vector-Jacobian product of the module| for a random u (the module's own
            differences along a random direction where they contradict its autograd), and |<A^T u, v> - <u, A v>|; the
            latter alone where gates are held, since A is not the Jacobian then.
        bound: What rounding explains: a multiple of the dtype's epsilon that grows with the number of operators.
        samples: Number of inputs checked.
        dtype: Their dtype.
        apart: max |model(x) - model(x[i:i+1])| and |model(x) - net(x[i:i+1])|, over the first, the last and a middle
            sample: what a sample has in a batch against what it has alone.
        slopes: Where gates are held, max |A^T u - the module's vector-Jacobian product with its gates detached|: the
            operators that the module runs are written down and differentiated again, each as its carrier times its
            gate, by tables that share nothing with capture. None where no gate is held, or it could not be found.
        unchecked: Names of operators on the carrier's way of which those tables know no gate, so that ``slopes`` could
            not be found.
    """

    output: float
    affine: float
    split: float
    jacobian: float
    bound: float
    samples: int
    dtype: torch.dtype
    apart: float = 0.0
    slopes: float | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def residuals(self) -> dict[str, float]:
        """The residuals by name: five, and ``slopes`` where it was found."""
        names = ("output", "affine", "split", "jacobian", "slopes", "apart")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def exact(self) -> bool:
        """Whether every residual is within the bound."""
        return all(value <= self.bound for value in self.residuals.values())

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        parts = ", ".join(f"{name} {value:.2e}" for name, value in self.residuals.items())
        missing = f"; slopes not checked, for want of a gate of {', '.join(self.unchecked)}" if self.unchecked else ""
        return f"{verdict} on {self.samples} inputs in {self.dtype}: {parts} (bound {self.bound:.2e}){missing}"


# What the detached run may raise: of a module that does not run under it the slopes are not checked.
FAILED = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, BadInput)
# PyTorch holds this operator's slope 1/6 in single precision, in its derivative only.
AUTOGRAD_ERROR = {"hardsigmoid": 2.0**-23}
PLACES = 3  # of samples that are run alone: the first, the last, and one between
HALVINGS = 40

# By a sample's place, the output tensors of the module and of the network for it alone.
Alone = dict[int, tuple[list[Tensor], list[Tensor]]]


@torch.inference_mode(False)
def verify(  # noqa: D417 - net is the network whose method it is
    net: Network, model: nn.Module, x: Any, *, rtol: float | None = None, seed: int = 0, raises: bool = True
) -> ExactnessReport:
    """Check the network against the user's untouched module.

    Five residuals, each relative to the largest term: the output; A x + b with b pushed through the network on its
    own; the offset contributions' sum; A^T u against autograd on the module; and single samples against the batch.
    On a kink autograd may pick another piece than the lowest, so a Jacobian that disagrees is compared again just
    beside x; where the module cuts its gradients (detach, no_grad), its own differences decide. Of a network with
    held gates A is not the Jacobian, and a sixth residual takes its place: the slopes against autograd on the module
    with its gates detached, operator by operator as it runs, by tables that know nothing of capture; what they lack an
    operator for is said in ``unchecked``. Of a product of two values they take the carrier that `held` names. Where
    both hold one infinity, as masked scores do, they agree, and the rest is judged on what is finite. An activation
    that was left out by ``output="pre_activation"`` is applied first, for the module applies it.

    Args:
        model: The module it was captured from.
        x: Inputs, as at capture.
        rtol: Bound on the residuals; by default 32 eps (1 + number of operators) in the coarsest dtype on the way,
            at most 1/16.
        seed: Seed of the random direction u; the caller's random state is not touched.
        raises: Whether a failure raises; else look at ``report.exact``.

    Returns:
        The report.

    Raises:
        ExactnessError: When a residual exceeds the bound.
        BadInput: When the module does not return what the network returns, or an operator overflows.
    """
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected the torch.nn.Module that was captured, got {type(model).__name__}")
    tensors = tuple(item.detach() for item in net.inputs.tensors(x))
    floating = next(item for item in tensors if item.is_floating_point())
    call = rerun(net, model)
    bound = rounding_bound(net) if rtol is None else rtol
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        alone = dict(_run_alone(net, call, tensors))
    unchecked: set[str] = set()
    reports = [
        _Check(net, call, tensors, place, bound, generator, unchecked).residuals(alone)
        for place, number in enumerate(net.graph.outputs)
        if _is_checkable(net.graph.values[number])
    ]
    if not reports:
        raise BadInput("net: no output depends on the input, so there is nothing to check")
    worst = [max(column) for column in zip(*reports, strict=True)]
    samples = tensors[0].shape[net.inputs.batch_dims[0]]
    if not all(value <= bound for value in worst):
        refuse_overflow(net.graph, tensors)
    *residuals, slopes, apart = worst
    report = ExactnessReport(
        *residuals,
        bound=bound,
        samples=samples,
        dtype=floating.dtype,
        apart=apart,
        slopes=slopes if net.gated and not unchecked else None,
        unchecked=tuple(sorted(unchecked)),
    )
    if raises and not report.exact:
        raise ExactnessError(
            f"net: {report}. Was the model trained, moved or put into another mode since capture? Then capture it"
            " again. If not, this is a fault of maxaffine: please report it with the model"
        )
    return report


def _is_checkable(value: Value) -> bool:
    return value.batch is not None and value.dtype is not None and value.dtype.is_floating_point


def _run_alone(
    net: Network, call: Rerun, tensors: tuple[Tensor, ...]
) -> Iterator[tuple[int, tuple[list[Tensor], list[Tensor]]]]:
    """Run module and network on single samples of a batch, those that the module takes."""
    samples = tensors[0].shape[net.inputs.batch_dims[0]]
    places = range(samples) if samples <= PLACES else (0, samples // 2, samples - 1)
    for place in places if samples > 1 else ():
        one = tuple(x.narrow(axis, place, 1) for x, axis in zip(tensors, net.inputs.batch_dims, strict=True))
        try:
            module = call(one)
        except BadInput:  # a module may take no single sample
            continue
        yield place, (module, tree_leaves(net(net.inputs.nest(one))))


@dataclass(frozen=True)
class _Check:
    """One output of the network against the module's."""

    net: Network
    call: Rerun
    tensors: tuple[Tensor, ...]
    place: int  # of the output
    bound: float  # what rounding explains
    generator: torch.Generator
    unchecked: set[str]  # gathers operators through which the slopes could not be checked

    def residuals(self, alone: Alone) -> tuple[float, ...]:
        """The residuals of the report, in its order, those of the slopes and of samples alone last."""
        net, bound = self.net, self.bound
        x = net.inputs.nest(self.tensors)
        with torch.no_grad():
            truth = self._front(self.call(self.tensors)[self.place]).detach()  # of a parameter's view no gradients
            value = self._front(tree_leaves(net(x))[self.place])
            own = self._finish(value)
        self._require_alike(truth, own)
        affine_map = net.affine_map(x, output=self.place)
        applied, offsets = affine_map(list(self.tensors)), affine_map.offsets
        finite = [without_infinities(item) for item in (value, offsets, applied)]
        scale = scales(net.inputs.fronts(self.tensors), (finite[0], finite[1], finite[2] - finite[1]))
        # What is infinite has been compared as it is; it has no place in a sum.
        u = torch.randn(truth.shape, generator=self.generator, dtype=torch.float64).to(truth)
        u = u.masked_fill(value.isinf(), 0)
        # A random weighting sees every entry of the split at once: sums that differ anywhere differ in <u, .> too.
        weighed = (u * finite[1]).reshape(len(u), -1).sum(1)
        split = self._split(u)
        # A sum of n terms of random signs is about sqrt(n) times as large as one.
        weight = max(size(split), size(u) * size(finite[1]) * max(1, offsets[0].numel()) ** 0.5)

        def terms_of(worst: Tensor) -> Tensor:
            return self._terms(self.tensors, self._pull_ending(value, worst))

        def terms_of_offset(_: Tensor) -> Tensor:
            return self._terms(origin(self.tensors), u)

        return (
            relative_error(difference(own, truth), scale, bound, terms_of),
            relative_error(difference(self._finish(applied), truth), scale, bound, terms_of),
            relative_error(split.sum(0) - weighed, weight, bound, terms_of_offset),
            *self._slopes(u),
            relative_error(self._apart(truth, alone), scale, bound, terms_of),
        )

    @property
    def _number(self) -> int:
        return self.net.graph.outputs[self.place]

    @property
    def _value(self) -> Value:
        return self.net.graph.values[self._number]

    def _front(self, output: Tensor) -> Tensor:
        return (self._value.batch or BatchAxis()).to_front(output)

    def _finish(self, front: Tensor) -> Tensor:
        """What the module returns, from the network's output (N, *out): the activation left out at capture, applied."""
        ending = self.net.endings[self.place] if self.net.endings else None
        return front if ending is None else self._front(ending(self._value.from_rows(as_rows(front))))

    def _pull_ending(self, value: Tensor, u: Tensor) -> Tensor:
        """Weights of what the module returns as those of the network's output: the chain rule through its ending."""
        if not self.net.endings:
            return u
        with torch.enable_grad():
            value = value.detach().requires_grad_()
            return torch.autograd.grad(self._finish(value), value, u)[0]

    def _terms(self, v: Any, u: Tensor, offset: bool = True) -> Tensor:
        return terms(self.net, self._number, self.tensors, v, u, offset)

    def _require_alike(self, truth: Tensor, own: Tensor) -> None:
        """Refuse an output of the module that has another shape or dtype than the network's."""
        if truth.shape != own.shape:
            raise BadInput(
                f"model: output {self.place} has shape {tuple(truth.shape)}, the network's {tuple(own.shape)}; check"
                " the module that was captured, and give squeeze() a dim, for without one it drops the axis of a single"
                " sample"
            )
        if truth.dtype != own.dtype:
            raise BadInput(
                f"model: output {self.place} is {truth.dtype}, the network's {own.dtype}; verify it as it was captured,"
                " inside autocast or outside"
            )

    def _apart(self, truth: Tensor, alone: Alone) -> Tensor:
        """How far the output is from what its samples have alone, (N, *units): zero for samples that were not run."""
        found = torch.zeros_like(truth)
        for place, outputs in alone.items():
            for items, is_own in zip(outputs, (False, True), strict=True):
                # A squeeze() may have left out the batch: then no axis is moved, and the entries are in order.
                item = items[self.place].detach()
                if item.dim() > 0 and item.shape != truth.shape[1:]:
                    item = self._finish(self._front(item)) if is_own else self._front(item)
                if item.numel() != truth[place].numel():
                    found[place] = torch.inf
                else:
                    gap = difference(item.reshape(truth[place].shape), truth[place]).abs()
                    found[place] = found[place].maximum(gap)
        return found

    def _split(self, u: Tensor) -> Tensor:
        """<u, b> per sample and operator that contributes to it."""
        linearization = Linearization(self.net.graph.part([self._number]), self.tensors)
        parts = list(linearization.contributions([self._value.from_rows(as_rows(u)).unsqueeze(0)]).values())
        return torch.cat(parts) if parts else linearization.outputs[0].new_zeros(1)

    def _slopes(self, u: Tensor) -> tuple[float, float]:
        """The residuals of A^T u at x, just beside it, or by differences: the first that are within the bound."""
        found, unchecked = self._slope_residuals(u)
        if max(found) > self.bound:
            # On a kink autograd may pick another piece than the lowest. Kinks have measure zero: a generic point close
            # by has none, and a fault does not go away there.
            beside = replace(self, tensors=tuple(map(self._move, self.tensors)))
            found, unchecked = beside._slope_residuals(u)
            if max(found) > self.bound and not self.net.endings and not self.net.gated:
                # Where the module cuts its gradients (detach, no_grad, a gradient made up), its differences decide.
                found = (beside._arbitrate(u, max(found)), 0.0)
        self.unchecked.update(unchecked)
        return found if self.net.gated else (max(found), 0.0)

    def _move(self, item: Tensor) -> Tensor:
        if not item.is_floating_point():
            return item
        step = torch.randn(item.shape, generator=self.generator, dtype=torch.float64).to(item)
        return item + step * item.abs().max().clamp(min=1) * torch.finfo(item.dtype).eps ** 0.5

    def _slope_residuals(self, u: Tensor) -> tuple[tuple[float, float], set[str]]:
        """A^T u against A and against the module, and operators of which the module's derivative is not known."""
        inputs, bound = self.net.inputs, self.bound
        # With gates held A is not the Jacobian: the module's gates are detached for its derivative.
        found, unchecked = self._pull_detached(u) if self.net.gated else (self._pull_by_autograd(u), set())
        if found is None:
            return (math.inf, math.inf), unchecked
        affine_map = self.net.affine_map(inputs.nest(self.tensors), output=self.place)
        u = self._pull_ending(affine_map.value, u)
        own = as_tuple(affine_map.rmv(u))
        v = [
            torch.randn(item.shape, generator=self.generator, dtype=torch.float64).to(item)
            if item.is_floating_point()
            else item
            for item in self.tensors
        ]
        # <u, A v> = <A^T u, v>: autograd may be cut where A is not, and vouches for A^T only, so A is held to A^T.
        ahead = (u * affine_map.mv(v)).double()
        pairs = zip(own, inputs.fronts(v), strict=True)
        back = torch.cat([(mine * front).double().flatten() for mine, front in pairs])
        gap, scale = (ahead.sum() - back.sum())[None], float(max(ahead.abs().sum(), back.abs().sum()))
        adjoint = relative_error(gap, scale, bound, lambda _: self._terms(v, u, offset=False).norm())
        against = 0.0
        floating = [place for place, item in enumerate(self.tensors) if item.is_floating_point()]
        for place, mine, theirs in zip(floating, own, found, strict=False):
            axis = inputs.batch_dims[place]
            expected = torch.zeros_like(mine) if theirs is None else theirs.movedim(axis, 0)

            def terms_of(worst: Tensor, place: int = place, axis: int = axis) -> Tensor:
                moved = origin(self.tensors)
                moved[place] = worst.movedim(0, axis)
                return self._terms(moved, u, offset=False)

            scale = max(size(expected), size(mine))
            against = max(against, relative_error(mine - expected, scale, bound, terms_of))
        against -= sum(AUTOGRAD_ERROR.get(record.kind, 0.0) for record in self.net.operators)
        return (adjoint, max(0.0, against)), unchecked

    def _pull_detached(self, u: Tensor) -> tuple[list[Tensor | None], set[str]]:
        """The products u^T J of the module with its gates detached; nothing where an operator has no gate there."""
        try:
            detached = detach_gates(self.net, self.call, self.tensors)
            found = detached.pull(lambda outputs: self._front(outputs[self.place]), u)
        except FAILED as error:
            return [], {f"the module as a whole ({type(error).__name__}: {first_line(error)})"}
        return ([] if detached.unchecked else found), detached.unchecked

    def _pull_by_autograd(self, u: Tensor) -> list[Tensor | None] | None:
        """The module's products u^T J, one per floating-point input; None where an operator has no derivative."""
        leaves = tuple(item.detach().clone().requires_grad_(item.is_floating_point()) for item in self.tensors)
        with torch.enable_grad():
            output = self._front(self.call(leaves)[self.place])
            floating = [item for item in leaves if item.requires_grad]
            if not output.requires_grad:
                return [None for _ in floating]
            try:
                return list(torch.autograd.grad(output, floating, u, allow_unused=True))
            except RuntimeError:
                return None

    def _arbitrate(self, u: Tensor, residual: float) -> float:
        """The slopes' error by the module's own differences, where they are so fine that they refute its autograd."""
        error, rounding = self._slope_error(u)
        resolution = max(self.bound, rounding)
        return error * self.bound / resolution if error <= resolution < residual / 4 else residual

    def _slope_error(self, u: Tensor) -> tuple[float, float]:
        """The relative error of <A^T u, h v> against <u, f(x + h v) - f(x)>, and how much of it rounding explains."""
        net, tensors = self.net, self.tensors
        x = net.inputs.nest(tensors)
        pulled, here = as_tuple(net.affine_map(x, output=self.place).rmv(u)), net.codes(x)
        direction = [torch.randn(x.shape, generator=self.generator, dtype=torch.float64).to(x.device) for x in tensors]
        # The largest h inside x's region: there f is affine, so the difference is exact but for the rounding of f,
        # which a small h would magnify.
        for power in range(HALVINGS):
            h = 2.0**-power
            pairs = zip(tensors, direction, strict=True)
            moved = tuple((x + h * v).to(x.dtype) if x.is_floating_point() else x for x, v in pairs)
            if net.codes(net.inputs.nest(moved)) == here:
                break
        else:
            return math.inf, 0.0
        with torch.no_grad():
            start, end = (self._front(self.call(items)[self.place]).double() for items in (tensors, moved))
        # The step that was taken: h v as x + h v was rounded.
        taken = [b.double() - a.double() if a.is_floating_point() else a for a, b in zip(tensors, moved, strict=True)]
        steps = net.inputs.fronts(taken)
        expected = torch.stack([as_rows(p * s).sum(1) for p, s in zip(pulled, steps, strict=True)]).sum(0)
        products = as_rows(u.double() * (end - start))
        scale = max(float(expected.abs().max()), float(products.abs().sum(1).max())) or 1.0
        # The outputs may have cancelled: they are rounded where their terms were.
        made_of = float(terms(net, self._number, moved, moved, u, offset=True).max())
        rounding = self.bound * max(made_of, float(as_rows(u.double().abs() * end.abs()).sum(1).max()))
        return float((products.sum(1) - expected).abs().max()) / scale, rounding / scale
