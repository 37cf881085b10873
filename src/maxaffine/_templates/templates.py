"""Find the templates of a network: which units, and the check that <A_c, x> + b_c is what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._network import Network, without_infinities
from maxaffine._templates.layer import Layer, find_layer
from maxaffine._templates.measuring import Measured, double, measure, residuals
from maxaffine._templates.result import Templates, several
from maxaffine.errors import BadInput, ExactnessError

Names = Sequence[str] | Mapping[int, str]
Unit = int | np.integer | str


def templates(
    net: Network,
    x: Any,
    classes: Unit | Sequence[Unit] | Tensor | np.ndarray | None = None,
    until: str | None = None,
    *,
    output: int | None = None,
    top: int | None = None,
    names: Names | None = None,
    progress: bool | None = None,
) -> Templates:
    """What `SplineNetwork.templates` says."""
    layer = find_layer(net, until, output)
    inputs = layer.inputs(x)
    values = double(layer.values(x))
    named = _names(layer, names)
    units = _choose(layer, values, classes, top, named)
    affine_map = layer.affine_map(x, torch.tensor(units))
    measured = measure(affine_map, inputs, progress)
    offsets = double(affine_map.offsets)
    kept = values[:, units]
    return Templates(
        affine_map=affine_map,
        inputs=inputs,
        layer=layer.words,
        units=tuple(units),
        names=tuple(named[unit] if named is not None else layer.unit_name(unit) for unit in units),
        task=layer.task if until is None else None,
        values=kept,
        inner=measured.inner,
        offsets=offsets,
        norms=measured.norms,
        bound=_check(layer, x, units, kept, measured, offsets),
        rounding=layer.rounding,
        offset_terms=partial(layer.terms, x, torch.tensor(units)),
    )


def _choose(
    layer: Layer,
    values: Tensor,
    classes: Unit | Sequence[Unit] | Tensor | np.ndarray | None,
    top: int | None,
    names: Mapping[int, str] | None,
) -> list[int]:
    """Flat numbers of the units to look at, in increasing order where ``top`` chose them."""
    units = list(range(layer.count))
    if classes is not None:
        units = [_number(item, layer, names) for item in several(classes)]
        if not units or len(set(units)) < len(units):
            raise BadInput(f"classes: {classes!r} are not different units; name at least one, and each once")
    if top is None:
        return units
    if top < 1:
        raise BadInput(f"top: {top} is less than 1; give how many units to keep")
    order = values[:, units].argsort(dim=1, descending=True, stable=True)[:, :top]
    return [units[place] for place in sorted(set(order.flatten().tolist()))]


def _number(item: Any, layer: Layer, names: Mapping[int, str] | None) -> int:
    if isinstance(item, str):
        found = [number for number, name in (names or {}).items() if name == item]
        if len(found) > 1:
            raise BadInput(f"classes: {len(found)} units are called {item!r}: {found}; choose one by its number")
        if not found:
            known = "names= gave none" if names is None else f"there are {', '.join(list(names.values())[:12])}"
            raise BadInput(f"classes: no unit is called {item!r}; {known}")
        return found[0]
    if isinstance(item, bool) or not isinstance(item, int | np.integer) or not 0 <= item < layer.count:
        raise BadInput(f"classes: {item} is not a unit of {layer.words}; choose among 0..{layer.count - 1}")
    return int(item)


def _names(layer: Layer, names: Names | None) -> Mapping[int, str] | None:
    """A name for every unit."""
    if names is None:
        return None
    if isinstance(names, Mapping):
        return {unit: names.get(unit, layer.unit_name(unit)) for unit in range(layer.count)}
    if isinstance(names, str) or len(names) != layer.count:
        raise BadInput(f"names: {layer.words} has {layer.count} units; give one name for each, or a dict by number")
    return dict(enumerate(names))


def _check(layer: Layer, x: Any, units: Sequence[int], values: Tensor, measured: Measured, offsets: Tensor) -> Tensor:
    """What rounding explains of value - <A, x> - b at each input, (N,); raises where there is more."""
    # An infinity says nothing about the rounding of others.
    finite = [without_infinities(item).abs() for item in (measured.inner, measured.spreads, offsets, values)]
    sizes = torch.stack(finite).amax((0, 2))
    gaps = residuals(values, measured.inner, offsets).abs()
    worst = gaps.amax(1)
    if bool((worst > layer.rounding * sizes).any()):  # sums that cancelled: measured by their terms inside the network
        u = torch.zeros_like(gaps).scatter_(1, gaps.argmax(1, keepdim=True), 1)
        both = [layer.terms(x, torch.tensor(units), u, offsets_alone=alone) for alone in (False, True)]
        sizes = torch.stack([sizes, *(item.to(sizes) for item in both)]).amax(0)
    bound = layer.rounding * sizes
    if not bool((worst <= bound).all()):
        sample = int((worst - bound).nan_to_num(nan=torch.inf).argmax())
        raise ExactnessError(
            f"net: at sample {sample}, <A_c, x> + b_c misses the value of a unit of {layer.words} by"
            f" {float(worst[sample]):.3g}, and rounding explains {float(bound[sample]):.3g}. Is the network badly"
            " conditioned there? Try it in float64. If not, this is a fault of maxaffine: please report it"
        )
    return bound
