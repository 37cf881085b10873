"""Inputs of a network, as partitions take them: in float64."""

from __future__ import annotations

from typing import Any

from torch import Tensor, float64

from maxaffine._capture import SplineNetwork
from maxaffine.errors import BadInput


def widened(net: SplineNetwork, x: Any, name: str) -> tuple[Tensor, ...]:
    """Inputs of a network as float64 tensors.

    Args:
        net: The network.
        x: Inputs as at capture, in the network's own type or in float64.
        name: The argument's name, for messages.

    Returns:
        One tensor per input of the network.

    Raises:
        BadInput: If net is not a network, and for whatever the network itself refuses.
    """
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    items = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, tuple | list) else [x]
    wide = all(isinstance(i, Tensor) and (i.dtype == float64 or not i.is_floating_point()) for i in items)
    try:
        tensors = (net.double() if wide else net).inputs.tensors(x)
    except BadInput as error:
        raise type(error)(f"{name}: {str(error).removeprefix('x: ')}") from error
    return tuple(item.double() if item.is_floating_point() else item for item in tensors)


def one_input(net: SplineNetwork, x: Any, name: str) -> tuple[Tensor, ...]:
    """One input of a network as float64 tensors.

    Args:
        net: The network.
        x: A batch of one as at capture, in the network's own type or in float64.
        name: The argument's name, for messages.

    Returns:
        One tensor per input of the network.

    Raises:
        BadInput: For a number of samples other than one, or whatever the network itself refuses.
    """
    tensors = widened(net, x, name)
    count = tensors[0].shape[net.inputs.batch_dims[0]]
    if count != 1:
        raise BadInput(f"{name}: it holds {count} samples; give one, e.g. {name}[:1]")
    return tensors
