"""What every partition asks of a network before it starts: inputs in float64, and boundaries that it can follow."""

from typing import Any

import numpy as np
from torch import Tensor, float64

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Comparisons, Contest, Step
from maxaffine.errors import BadInput, NotPiecewiseAffine


def require_network(net: Any) -> None:
    """Refuse what is not a network, most of all a module that was not captured, and smooth networks."""
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    net.require_regions("partitions")


def as_double(net: SplineNetwork, x: Any, name: str) -> tuple[Tensor, ...]:
    """Inputs as at capture, or in float64, as one float64 tensor per input of the network; errors name the argument."""
    require_network(net)
    items = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, tuple | list) else [x]
    wide = all(isinstance(i, Tensor) and (i.dtype == float64 or not i.is_floating_point()) for i in items)
    try:
        tensors = (net.double() if wide else net).inputs.tensors(x)
    except BadInput as error:
        raise type(error)(f"{name}: {str(error).removeprefix('x: ')}") from error
    return tuple(item.double() if item.is_floating_point() else item for item in tensors)


def one_input(net: SplineNetwork, x: Any, name: str) -> tuple[Tensor, ...]:
    """A batch of one, as :func:`as_double` gives it."""
    tensors = as_double(net, x, name)
    count = tensors[0].shape[net.inputs.batch_dims[0]]
    if count != 1:
        raise BadInput(f"{name}: it holds {count} samples; give one, e.g. {name}[:1]")
    return tensors


def known_boundaries(step: Step) -> Comparisons | Contest:
    """The boundaries of the operator of a step with pieces, of one of the two families that partitions know."""
    boundaries = step.operator.boundaries()
    if isinstance(boundaries, Comparisons | Contest):
        return boundaries
    reason = f"where {type(step.operator).__name__} changes its piece is not known"
    raise refusal(step, reason, "give it a method boundaries(), as docs/howto-rule.md shows")


def refusal(step: Step, reason: str, cure: str) -> NotPiecewiseAffine:
    """The error that a step's operator cannot be followed."""
    record = step.records[0]
    return NotPiecewiseAffine(record.name, reason, cure, record.module_path, record.source)


def ends(bounds: Any, features: int) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high end (features,) of every feature, each given as one number or one per feature."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise BadInput(
            f"bounds: expected (low, high), got {bounds!r}; give two numbers, or two rows with one per feature"
        )
    try:
        plain = [side.detach().cpu() if isinstance(side, Tensor) else side for side in bounds]
        given = [np.asarray(side).reshape(-1) for side in plain]
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"bounds: expected numbers, got {bounds!r}; {error}") from error
    # Text that reads like a number is a mistake elsewhere, and so is a truth value.
    if any(side.dtype.kind not in "iuf" for side in given):
        raise BadInput(f"bounds: expected numbers, got {bounds!r}; give numbers, or rows of them")
    if any(len(side) not in (1, features) for side in given):
        raise BadInput(f"bounds: expected one number or {features} for each end, got {[len(side) for side in given]}")
    low, high = (np.broadcast_to(side.astype(float), (features,)).copy() for side in given)
    return low, high


def seconds(time_limit: Any) -> float | int:
    """A time limit, checked."""
    if isinstance(time_limit, bool) or not isinstance(time_limit, int | float) or not time_limit > 0:
        raise BadInput(f"time_limit: expected seconds above 0, got {time_limit!r}; float('inf') sets no limit")
    return time_limit
