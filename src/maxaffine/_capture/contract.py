"""The contract that the rule of an operator must keep, as one check."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maxaffine._capture.capture import capture
from maxaffine._capture.spline_network import SplineNetwork
from maxaffine._graph import BatchAxis, Boundaries, Comparisons, Contest, Dependence, Graph, Order, Step
from maxaffine._network import verify
from maxaffine.errors import ExactnessError

BATCHES = (1, 5)
SEGMENTS, POINTS = 4, 40
LAWS = {
    "output": "the operator's own value is not the module's",
    "affine": "A x + b is not the module's output",
    "split": "the offset contributions do not sum to b",
    "jacobian": "A is not the Jacobian of the module, or A^T not its transpose",
    "apart": "one sample changes another's output, so the proof of the batch axis is wrong",
    "range": "the codes leave 0..pieces-1",
    "codes": "two inputs have equal codes but different maps",
    "homogeneous": "it has an offset, though its traits say homogeneous",
    "said": "it has several pieces but does not say where they change (boundaries), so no partition can follow it",
    "counted": "its codes are not what its boundaries give",
    "crossed": "a code changes where no boundary lies",
    "straight": "what its boundaries compare is not affine in its inputs",
}


def check_rule(module: nn.Module, example: Tensor | tuple[Tensor, ...], *, seed: int = 0) -> None:
    """Hold the rules that a module needs to their contract, at random inputs of the example's shape and scale.

    In single and in double precision, for one sample and for five: f(x) = A x + b; A is the Jacobian of the untouched
    module; <A u, v> = <u, A^T v>; the split offsets sum to b; no sample changes another's output; codes lie in
    0..pieces-1, and inputs with equal codes share one affine map; codes change at the operator's boundaries alone, and
    what these compare is affine in its inputs, so that lines, planes and regions can be found.

    Args:
        module: A module that calls the operator; its parameters and buffers follow the precision.
        example: A tensor (N, *in), or a tuple of them.
        seed: Seed of the inputs; the caller's random state is not touched.

    Raises:
        ExactnessError: Naming the first law that does not hold.
        NotPiecewiseAffine: When the module is refused.

    Example:
        >>> import torch
        >>> from maxaffine.operators import check_rule
        >>> check_rule(torch.nn.Hardtanh(), torch.randn(2, 3))
    """
    examples = (example,) if isinstance(example, Tensor) else example
    generator = torch.Generator().manual_seed(seed)
    for dtype in (torch.float32, torch.float64):
        typed = copy.deepcopy(module).to(dtype)
        draws = [_Draw(item.to(dtype) if item.is_floating_point() else item, generator) for item in examples]
        net = capture(typed, _give([draw.batch(2) for draw in draws]))
        for batch in BATCHES:
            inputs = [draw.batch(batch) for draw in draws]
            _check_apart(net, typed, inputs)
            report = verify(net, typed, _give(inputs), seed=seed, raises=False)
            for law in ("output", "affine", "jacobian", "split"):
                _require(report.residuals[law] <= report.bound, law, inputs)
        # Random inputs alone would rarely share a region; points on segments do, and walk over its boundaries.
        points = [draw.path() for draw in draws]
        _check_codes(net, points)
        for step, given, value, _ in net.graph.walk(points):
            if step.piecewise:
                _check_boundaries(net.graph, step, given, value, points)


@dataclass(frozen=True)
class _Draw:
    """Random inputs like one example: normal numbers of its scale; integers are taken from it."""

    example: Tensor
    generator: torch.Generator

    def batch(self, count: int) -> Tensor:
        if not self.example.is_floating_point():
            return self.example[torch.randint(len(self.example), (count,), generator=self.generator)]
        drawn = torch.randn(count, *self.example.shape[1:], generator=self.generator, dtype=self.example.dtype)
        return drawn.to(self.example.device) * self.example.abs().max().clamp(min=1)

    def path(self) -> Tensor:
        """Points on segments, close enough for many to share a region; all with the same integers, as a region has."""
        if not self.example.is_floating_point():
            return self.batch(1).expand(SEGMENTS * POINTS, *self.example.shape[1:])
        starts = self.batch(SEGMENTS).unsqueeze(0)
        steps = torch.linspace(0, 1, POINTS).to(starts).view(-1, *[1] * self.example.dim())
        return (starts + steps * (self.batch(SEGMENTS) - starts)).flatten(0, 1)


def _give(inputs: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return inputs[0] if len(inputs) == 1 else tuple(inputs)


def _require(holds: bool, law: str, inputs: Sequence[Tensor]) -> None:
    if not holds:
        dtype = next(item.dtype for item in inputs if item.is_floating_point())
        raise ExactnessError(
            f"module: {LAWS[law]} ({dtype}, {len(inputs[0])} samples). Cure: correct the rule or the derivative of an"
            " operator that the module calls"
        )


def _near(found: Tensor, expected: Tensor) -> bool:
    # A wrong map is off by a share of the values; rounding, after any number of operators, by far less than this.
    bound = 1e4 * torch.finfo(expected.dtype).eps * (1 + float(expected.abs().max()))
    return bool(((found - expected).abs() <= bound).all())


def _places(net: SplineNetwork) -> list[int]:
    """The outputs that depend affinely on the input."""
    values = [net.graph.values[number] for number in net.graph.outputs]
    return [place for place, value in enumerate(values) if value.dependence is Dependence.AFFINE]


def _check_apart(net: SplineNetwork, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    together = _fronts(net, module, inputs)
    for sample in range(len(inputs[0])):
        alone = _fronts(net, module, [item[sample : sample + 1] for item in inputs])
        for whole, own in zip(together, alone, strict=True):
            _require(_near(whole[sample : sample + 1], own), "apart", inputs)


def _fronts(net: SplineNetwork, module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        outputs = tree_leaves(module(*(item.clone() for item in inputs)))
    axes = [net.graph.values[number].batch or BatchAxis() for number in net.graph.outputs]
    return [axes[place].to_front(outputs[place]) for place in _places(net)]


def _check_codes(net: SplineNetwork, points: Sequence[Tensor]) -> None:
    for record, codes in net.graph.codes(points):
        _require(0 <= int(codes.min()) and int(codes.max()) < record.pieces, "range", points)
    # The map at the first point of a region must be the map at all of its points.
    regions = net.codes(_give(points)).region_ids().tolist()
    first = {region: place for place, region in reversed(list(enumerate(regions)))}
    held = [item[[first[region] for region in regions]] for item in points]
    for place in _places(net):
        amap = net.affine_map(_give(held), output=place)
        _require(_near(amap(points), net.affine_map(_give(points), output=place).value), "codes", points)


def _check_boundaries(graph: Graph, step: Step, given: list[Any], value: Any, points: Sequence[Tensor]) -> None:
    operator, axis = step.operator, graph.values[step.result].batch or BatchAxis()
    if operator.traits.homogeneous:
        offsets = [item for item in operator.local(given, value).offsets() if item is not None]
        _require(not any(bool(item.any()) for item in offsets), "homogeneous", points)
    # Partitions are found from the boundaries alone, so a code that they do not explain would be missed there.
    boundaries, codes = operator.boundaries(), operator.codes(given, value)
    _require(boundaries is not None and codes is not None, "said", points)
    if boundaries is None or codes is None:
        return
    found = boundaries.codes(given)
    if found is not None:
        _require(found.shape == codes.shape and bool((found == codes).all()), "counted", points)

    def rows(tensor: Tensor) -> Tensor:
        front = axis.to_front(tensor)
        return front.reshape(len(front), -1)

    # Between neighbors on the path of which none changes side no code may change.
    sides = [rows(side) for side in _sides(boundaries, given, codes)]
    same = torch.stack([side[1:] == side[:-1] for side in sides]).all(0) if sides else torch.tensor(True)
    changed = rows(codes)[1:] != rows(codes)[:-1]
    _require(not bool((same & changed).any()), "crossed", points)
    _check_straight(graph, step, boundaries, given, points)


def _sides(boundaries: Boundaries, given: list[Any], like: Tensor) -> list[Tensor]:
    """On which side of each boundary every unit is, shaped as the codes."""
    if isinstance(boundaries, Comparisons):
        return [pair.difference().sign().expand(like.shape) for pair in boundaries.pairs(given)]
    if not isinstance(boundaries, Contest):
        return []
    scores = boundaries.scores(given[0])
    if boundaries.order is Order.LARGEST:
        return [scores.argmax(-1).expand(like.shape)]
    return [place.expand(like.shape) for place in torch.argsort(scores, dim=-1, stable=True).unbind(-1)]


def _check_straight(
    graph: Graph, step: Step, boundaries: Boundaries, given: list[Any], points: Sequence[Tensor]
) -> None:
    """Half way between two inputs of the operator, what is compared is half way too."""
    values = [graph.values[number] for number in step.inputs]
    if any(value.dependence is Dependence.REGION for value in values):
        return  # half way between two values of what jumps there is nothing
    given = [item.double() if isinstance(item, Tensor) and item.is_floating_point() else item for item in given]
    other, middle = list(given), list(given)
    for place, known in enumerate(values):
        if known.dependence is Dependence.AFFINE:
            axis = known.batch or BatchAxis()
            other[place] = axis.from_front(axis.to_front(given[place]).roll(POINTS // 2, 0), given[place].shape)
            middle[place] = (given[place] + other[place]) / 2
    for here, there, between in zip(*(_compare(boundaries, inputs) for inputs in (given, other, middle)), strict=True):
        known = here.isfinite() & there.isfinite()
        _require(not known.any() or _near(between[known], ((here + there) / 2)[known]), "straight", points)


def _compare(boundaries: Boundaries, given: list[Any]) -> list[Tensor]:
    """The numbers that the boundaries compare."""
    if isinstance(boundaries, Comparisons):
        return [pair.difference() for pair in boundaries.pairs(given)]
    return [boundaries.scores(given[0])] if isinstance(boundaries, Contest) else []
