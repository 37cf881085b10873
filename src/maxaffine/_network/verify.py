"""The exactness check: the spline form against the user's untouched module."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maxaffine._graph import BatchAxis, Dependence, Linearization, as_tuple, refuse_overflow
from maxaffine._network.apart import differences_alone, outputs_alone
from maxaffine._network.network import Network
from maxaffine._network.rerun import Rerun, rerun
from maxaffine._network.residuals import difference, judged, scales, size, without_infinities
from maxaffine._network.secant import slope_error
from maxaffine._network.terms import origin, terms
from maxaffine.errors import BadInput, ExactnessError


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
    """

    output: float
    affine: float
    split: float
    jacobian: float
    bound: float
    samples: int
    dtype: torch.dtype
    apart: float = 0.0

    @property
    def residuals(self) -> dict[str, float]:
        """The five residuals by name."""
        return {name: getattr(self, name) for name in ("output", "affine", "split", "jacobian", "apart")}

    @property
    def exact(self) -> bool:
        """Whether every residual is within the bound."""
        return all(value <= self.bound for value in self.residuals.values())

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        parts = ", ".join(f"{name} {value:.2e}" for name, value in self.residuals.items())
        return f"{verdict} on {self.samples} inputs in {self.dtype}: {parts} (bound {self.bound:.2e})"


# PyTorch holds this operator's slope 1/6 in single precision, in its derivative only.
AUTOGRAD_ERROR = {"hardsigmoid": 2.0**-23}


@torch.inference_mode(False)
def verify(
    net: Network,
    model: nn.Module,
    x: Any,
    *,
    rtol: float | None = None,
    seed: int = 0,
    raises: bool = True,
) -> ExactnessReport:
    """What `SplineNetwork.verify` says."""
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected the torch.nn.Module that was captured, got {type(model).__name__}")
    tensors = tuple(item.detach() for item in net.inputs.tensors(x))
    floating = next(item for item in tensors if item.is_floating_point())
    call = rerun(net, model)
    bound = rounding_bound(net) if rtol is None else rtol
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        alone = outputs_alone(net, call, tensors)
    reports = [
        _check(net, call, tensors, alone, place, generator, bound)
        for place, number in enumerate(net.graph.outputs)
        if _checkable(net, number)
    ]
    if not reports:
        raise BadInput("net: no output depends on the input, so there is nothing to check")
    *worst, apart = (max(column) for column in zip(*reports, strict=True))
    samples = tensors[0].shape[net.inputs.batch_dims[0]]
    if not all(value <= bound for value in worst):
        refuse_overflow(net.graph, tensors)
    report = ExactnessReport(*worst, bound=bound, samples=samples, dtype=floating.dtype, apart=apart)
    if raises and not report.exact:
        raise ExactnessError(
            f"net: {report}. Was the model trained, moved or put into another mode since capture? Then capture it"
            " again. If not, this is a fault of maxaffine: please report it with the model"
        )
    return report


def rounding_bound(net: Network) -> float:
    """32 eps (1 + number of operators) in the coarsest dtype on the way; a check that allows more is none."""
    numbers = {*net.graph.inputs, *(number for step in net.graph.steps for number in step.outputs)} - {None}
    values = [net.graph.values[number] for number in numbers]
    eps = max(torch.finfo(v.dtype).eps for v in values if v.dependence is Dependence.AFFINE and v.dtype is not None)
    return min(32 * eps * (1 + len(net.operators)), 1 / 16)


def _checkable(net: Network, number: int) -> bool:
    value = net.graph.values[number]
    return value.batch is not None and value.dtype is not None and value.dtype.is_floating_point


def _check(
    net: Network,
    call: Rerun,
    tensors: tuple[Tensor, ...],
    alone: dict[int, list[list[Tensor]]],
    place: int,
    generator: torch.Generator,
    bound: float,
) -> tuple[float, float, float, float, float]:
    x = net.inputs.given(tensors)
    with torch.no_grad():
        truth = _front(net, place, call(tensors)[place]).detach()  # a view of a parameter may require gradients
        value = _front(net, place, tree_leaves(net(x))[place])
        own = _finish(net, place, value)
    _require_alike(truth, own, place)
    affine_map = net.affine_map(x, output=place)
    floating = [item for item in tensors if item.is_floating_point()]
    applied, offsets = affine_map(floating), affine_map.offsets
    finite = [without_infinities(item) for item in (value, offsets, applied)]
    fronts = [x.movedim(a, 0) for x, a in zip(tensors, net.inputs.batch_dims, strict=True) if x.is_floating_point()]
    scale = scales(fronts, (finite[0], finite[1], finite[2] - finite[1]))
    applied = _finish(net, place, applied)
    moved = partial(_front, net, place)
    apart = differences_alone(truth, alone, place, (moved, lambda item: _finish(net, place, moved(item))))
    # What is infinite has been compared as it is; it has no place in a sum.
    u = torch.randn(truth.shape, generator=generator, dtype=torch.float64).to(truth).masked_fill(value.isinf(), 0)
    weighed = (u * finite[1]).reshape(len(u), -1).sum(1)
    split = _split(net, tensors, place, u)
    weight = max(size(split), size(u) * size(finite[1]) * max(1, offsets[0].numel()) ** 0.5)
    number = net.graph.outputs[place]

    def made_of(worst: Tensor) -> Tensor:
        return terms(net, number, tensors, tensors, _weights_before(net, place, value, worst), offset=True)

    residuals = (
        judged(difference(own, truth), scale, bound, made_of),
        judged(difference(applied, truth), scale, bound, made_of),
        judged(split.sum(0) - weighed, weight, bound, lambda _: terms(net, number, tensors, origin(tensors), u, True)),
    )
    together = judged(apart, scale, bound, made_of)
    return *residuals, _jacobian(net, call, tensors, place, u, generator, bound), together


def _require_alike(truth: Tensor, own: Tensor, place: int) -> None:
    """Refuse an output of the module that has another shape or dtype than the network's."""
    if truth.shape != own.shape:
        raise BadInput(
            f"model: output {place} has shape {tuple(truth.shape)}, the network's {tuple(own.shape)}; check the module"
            " that was captured, and give squeeze() a dim, for without one it drops the axis of a single sample"
        )
    if truth.dtype != own.dtype:
        raise BadInput(
            f"model: output {place} is {truth.dtype}, the network's {own.dtype}; verify it as it was captured, inside"
            " autocast or outside"
        )


def _jacobian(
    net: Network,
    call: Rerun,
    tensors: tuple[Tensor, ...],
    place: int,
    u: Tensor,
    generator: torch.Generator,
    bound: float,
) -> float:
    """The Jacobian's residual at x, just beside it, or by differences: the first that is within the bound."""
    jacobian = _jacobian_residual(net, call, tensors, place, u, generator, bound)
    if jacobian > bound:
        tensors = _beside(tensors, generator)
        jacobian = _jacobian_residual(net, call, tensors, place, u, generator, bound)
    if jacobian > bound and not net.endings:
        jacobian = _arbitrate(net, call, tensors, place, u, bound, generator, jacobian)
    return jacobian


def _split(net: Network, tensors: tuple[Tensor, ...], place: int, u: Tensor) -> Tensor:
    """<u, b> per sample and operator that contributes to it."""
    number = net.graph.outputs[place]
    linearization = Linearization(net.graph.part([number]), tensors)
    like = linearization.outputs[0]
    cotangent = (net.graph.values[number].batch or BatchAxis()).from_front(u, like.shape).unsqueeze(0)
    parts = list(linearization.contributions([cotangent]).values())
    return torch.cat(parts) if parts else like.new_zeros(1)


def _jacobian_residual(
    net: Network,
    call: Rerun,
    tensors: tuple[Tensor, ...],
    place: int,
    u: Tensor,
    generator: torch.Generator,
    bound: float,
) -> float:
    # With gates held A is not the Jacobian: autograd on the module has nothing to compare, and A^T is held to A alone.
    found = () if net.gated else _pull_by_autograd(net, call, tensors, place, u)
    if found is None:
        return math.inf
    affine_map = net.affine_map(net.inputs.given(tensors), output=place)
    u = _weights_before(net, place, affine_map.value, u)
    own = as_tuple(affine_map.rmv(u))
    moving = [item for item in tensors if item.is_floating_point()]
    axes = [axis for item, axis in zip(tensors, net.inputs.batch_dims, strict=True) if item.is_floating_point()]

    def made_of(moved: list[Tensor]) -> Tensor:
        supply = iter(moved)
        v = [next(supply) if item.is_floating_point() else item for item in tensors]
        return terms(net, net.graph.outputs[place], tensors, v, u, offset=False)

    directions = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in moving]
    fronts = [v.movedim(axis, 0) for v, axis in zip(directions, axes, strict=True)]
    # Autograd may be cut where A is not, and vouches for A^T only: A is held to its transpose.
    ahead = (u * affine_map.mv(directions)).double()
    back = torch.cat([(mine * front).double().flatten() for mine, front in zip(own, fronts, strict=True)])
    gap, scale = (ahead.sum() - back.sum())[None], float(max(ahead.abs().sum(), back.abs().sum()))
    residual = judged(gap, scale, bound, lambda _: made_of(directions).norm())
    for which, (mine, theirs, axis) in enumerate(zip(own, found, axes, strict=False)):
        expected = torch.zeros_like(mine) if theirs is None else theirs.movedim(axis, 0)

        def made_of_entry(worst: Tensor, which: int = which, axis: int = axis) -> Tensor:
            moved = [torch.zeros_like(item) for item in moving]
            moved[which] = worst.movedim(0, axis)
            return made_of(moved)

        scale = max(size(expected), size(mine))
        residual = max(residual, judged(mine - expected, scale, bound, made_of_entry))
    return max(0.0, residual - sum(AUTOGRAD_ERROR.get(record.kind, 0.0) for record in net.operators))


def _pull_by_autograd(
    net: Network, call: Rerun, tensors: tuple[Tensor, ...], place: int, u: Tensor
) -> list[Tensor | None] | None:
    """The module's vector-Jacobian products, one per floating-point input; None where an operator has no derivative."""
    leaves = tuple(item.detach().clone().requires_grad_(item.is_floating_point()) for item in tensors)
    with torch.enable_grad():
        output = _front(net, place, call(leaves)[place])
        floating = [item for item in leaves if item.requires_grad]
        if not output.requires_grad:
            return [None for _ in floating]
        try:
            return list(torch.autograd.grad(output, floating, u, allow_unused=True))
        except RuntimeError:
            return None


def _weights_before(net: Network, place: int, value: Tensor, u: Tensor) -> Tensor:
    """Weights of what the module returns as those of the network's output: the chain rule through its ending."""
    if not net.endings:
        return u
    with torch.enable_grad():
        value = value.detach().requires_grad_()
        return torch.autograd.grad(_finish(net, place, value), value, u)[0]


def _arbitrate(
    net: Network,
    call: Rerun,
    tensors: tuple[Tensor, ...],
    place: int,
    u: Tensor,
    bound: float,
    generator: torch.Generator,
    jacobian: float,
) -> float:
    """The module's own differences, where they contradict its autograd: detach, no_grad, a gradient made up."""
    x = net.inputs.given(tensors)
    own = as_tuple(net.affine_map(x, output=place).rmv(u))

    def run(moved: tuple[Tensor, ...]) -> Tensor:
        return _front(net, place, call(moved)[place])

    error, rounding = slope_error(net, run, tensors, net.graph.outputs[place], own, u, bound, generator)
    resolution = max(bound, rounding)
    return error * bound / resolution if error <= resolution < jacobian / 4 else jacobian


def _beside(tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """A generic point close by: kinks have measure zero, a fault does not go away."""
    moved = []
    for item in tensors:
        if item.is_floating_point():
            step = torch.randn(item.shape, generator=generator, dtype=torch.float64).to(item)
            item = item + step * item.abs().max().clamp(min=1) * torch.finfo(item.dtype).eps ** 0.5
        moved.append(item)
    return tuple(moved)


def _finish(net: Network, place: int, front: Tensor) -> Tensor:
    """What the module returns, from the network's output (N, *out): the activation left out at capture, applied."""
    ending = net.endings[place] if net.endings else None
    if ending is None:
        return front
    value = net.graph.values[net.graph.outputs[place]]
    axis = value.batch or BatchAxis()
    shape = (*value.units[: axis.dim], len(front), *value.units[axis.dim :])
    return axis.to_front(ending(axis.from_front(front, shape)))


def _front(net: Network, place: int, output: Tensor) -> Tensor:
    batch = net.graph.values[net.graph.outputs[place]].batch
    return output if batch is None else batch.to_front(output)
