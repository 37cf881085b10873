"""Between which numbers values inside a network stay while its input stays in a box, proved."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from time import monotonic
from typing import Any

import numpy as np

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._drawing import require
from maxaffine._partition.decisions.bounds import AT_ONCE, LateError, enclose, unknown, upper
from maxaffine._partition.decisions.domain import Domain
from maxaffine._partition.decisions.program import program_of
from maxaffine._partition.inputs import ends, require_network, seconds
from maxaffine.errors import BadInput

Ranges = dict[int, tuple[np.ndarray, np.ndarray]]


def value_ranges(
    net: SplineNetwork, numbers: Sequence[int], bounds: Any, time_limit: float | int = np.inf
) -> Ranges | None:
    """The least and the largest that each entry of some values can be over a box of inputs, rounded outward.

    The bounds are those of linear relaxations, so they hold but are not tight.

    Args:
        net: The network; it is computed in float64.
        numbers: The numbers of the values in its graph.
        bounds: (low, high) of every feature, numbers or one per feature of all inputs, finite.
        time_limit: Seconds.

    Returns:
        By number (low, high), one entry for each unit; None when the time was over first.

    Raises:
        BadInput: For other bounds, or a time limit of 0 or less.
        NotPiecewiseAffine: For a smooth network, and for an operator that jumps.
    """  # noqa: DOC502
    require_network(net)
    require("bounds", ("scipy",), "partition")
    net = net.double()
    features = sum(prod(units) for units in net.inputs.units)
    low, high = ends(bounds, features)
    if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
        raise BadInput("bounds: give (low, high), finite and low at most high, e.g. (0, 1): without, little is proved")
    middle = (low + high) / 2
    program, domain = program_of(net, numbers, middle, low, high), Domain(middle, low, high, np.inf)
    deadline = monotonic() + seconds(time_limit)
    try:
        known = enclose(program, domain, unknown(program), deadline=deadline)
    except LateError:
        return None
    sides = [np.zeros(len(program.outputs)) for _ in range(2)]
    for at in slices(len(program.outputs), AT_ONCE // max(1, program.size)):
        for side, sign in zip(sides, (-1, 1), strict=True):
            rows = program.outputs[at].times(np.full(at.stop - at.start, float(sign)))
            slopes, offsets, errors = upper(program, known, rows.dense(program.size), rows.offsets)
            side[at] = sign * (slopes @ domain.x + domain.gain(slopes) + offsets + errors)
    cuts = np.cumsum([prod(net.graph.values[number].units) for number in numbers])[:-1]
    return dict(zip(numbers, zip(*(np.split(side, cuts) for side in sides), strict=True), strict=True))
