"""Find the templates of a network, of some units or layer by layer; <A_c, x> + b_c is checked against their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._drawing import Panel, panel_axes, short
from maxaffine._network import Network, largest, without_infinities
from maxaffine._progress import progress_bar
from maxaffine._templates.layer import Layer, find_layer
from maxaffine._templates.parts import check_place
from maxaffine._templates.result import Templates, double, measure, residuals, several
from maxaffine.errors import BadInput, ExactnessError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

MOST_LAYERS = 8

Names = Sequence[str] | Mapping[int, str]
Unit = int | np.integer | str


def templates(  # noqa: D417 - net is the network whose method it is
    net: Network,
    x: Any,
    classes: Unit | Sequence[Unit] | Tensor | np.ndarray | None = None,
    until: str | None = None,
    *,
    output: int | str | None = None,
    top: int | None = None,
    names: Names | None = None,
    progress: bool | None = None,
) -> Templates:
    """The templates that the network matches each input against: logit_c = <A[x]_c, x> + b[x]_c.

    The rows are walked over in blocks, so that 1000 classes of a photograph fit in memory. That the sum is what the
    network gives is checked for every row. Within the region of x the template is also the gradient of the logit.

    Args:
        x: The inputs, as at capture.
        classes: Numbers or names of the classes, or flat numbers of the units; all by default.
        until: Operator or module whose units are looked at; the network's output by default.
        output: Which output, by number or name, for a network with several.
        top: Keep only the units that are among the ``top`` largest at some input.
        names: Names of the units, in order or by number.
        progress: Whether to show a bar; by default when it takes over two seconds.

    Returns:
        The templates, with inner products, offsets, norms, cosines and comparisons.

    Raises:
        BadInput: When there is no such layer or unit; lists what there is.
        ExactnessError: When <A_c, x> + b_c misses the network's own value by more than rounding can explain.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Linear(2, 3).eval(), torch.zeros(1, 2))
        >>> net.templates(torch.ones(4, 2)).slopes.shape
        torch.Size([4, 3, 2])

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    sections 4 and 5: deep networks are template matching machines.
    """
    layer = find_layer(net, until, output)
    inputs = layer.inputs(x)
    values = double(layer.values(x))
    named = _names(layer, names)
    units = _choose(layer, values, classes, top, named)
    affine_map = layer.affine_map(x, torch.tensor(units))
    inner, norms, spreads = measure(affine_map, inputs, progress)
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
        inner=inner,
        offsets=offsets,
        norms=norms,
        bound=_check(layer, x, units, (inner, spreads, offsets, kept)),
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
    # Every input has all the units that are large at some input, so that inputs can be compared.
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


def _check(layer: Layer, x: Any, units: Sequence[int], parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """What rounding explains of value - <A, x> - b at each input, (N,); raises where there is more."""
    inner, _, offsets, values = parts
    # An infinity says nothing about the rounding of others.
    finite = [without_infinities(item).abs() for item in parts]
    sizes = torch.stack(finite).amax((0, 2))
    gaps = residuals(values, inner, offsets).abs()
    worst = gaps.amax(1)
    if bool((worst > layer.rounding * sizes).any()):  # sums that cancelled: measured by their terms inside the network
        both = [layer.terms(x, torch.tensor(units), largest(gaps), offsets_alone=alone) for alone in (False, True)]
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


class LayerTemplates(dict[str, Templates]):
    """Templates by layer name, in running order."""

    def plot(
        self,
        sample: int = 0,
        share: float = 0.995,
        ax: Axes | None = None,
        *,
        cmap: str | Colormap | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw one input and, in a row for each layer, the templates of its largest units; each row has its own scale.

        Args:
            sample: Which sample of the batch.
            share: Share of a row's values that lie within its colors, so that a few steep ones do not take them all.
            cmap: A diverging color map of matplotlib instead of blue over white to red, for pictures.
            size: Width of a new figure in inches; by default what its panels take.
            ax: What to draw in; None makes a figure of pyplot.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When the input has no plain picture, or there is no such sample.
            MaxAffineError: When matplotlib is absent.
        """
        number = check_place(sample, len(next(iter(self.values()))), "sample")
        rows = []
        for name, found in self.items():
            row = found.panels(number, found.largest(number), 0)
            rows.append([Panel(row[0].array, f"layer {short(name, 24)}\n(input x)", "input"), *row[1:]])
        return panel_axes(ax, rows, share, cmap=cmap, size=size)

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name}: {len(item.units)} units" for name, item in self.items())
        return f"LayerTemplates of {len(self)} layers\n{rows}"


def layer_templates(
    net: Network, x: Any, layers: Sequence[str] | None = None, *, top: int = 3, progress: bool | None = None
) -> LayerTemplates:
    """The templates of the largest units of several layers: A_{1..l}[x]_k for unit k of layer l.

    Args:
        net: The captured network.
        x: The inputs, as at capture.
        layers: Names of operators or modules; by default up to eight, spread over the operators with more than one
            piece, and the last operator.
        top: Units per layer and input: those with the largest values.
        progress: Whether to show a bar; by default when it takes over two seconds.

    Returns:
        The templates by layer.

    Raises:
        BadInput: When there is no such layer.
        ExactnessError: When a template misses its unit's value by more than rounding can explain.

    >>> import torch, maxaffine as ma
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
    >>> x = torch.ones(1, 2)
    >>> list(layer_templates(ma.capture(model, x), x))
    ['1', '2']

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    section 4.
    """
    find_layer(net, None, 0)
    if isinstance(layers, str):
        layers = [layers]
    if layers is None:
        layers = _spread(net)
    if not layers:
        raise BadInput("layers: none is named; give at least one name of an operator or module")
    bar = progress_bar(progress, "layers", iterable=layers, unit="layer")
    return LayerTemplates({name: templates(net, x, until=name, top=top, progress=False) for name in bar})


def _spread(net: Network) -> list[str]:
    """Names of some operators with more than one piece, the first and the last among them, and of the last operator."""
    last = [record.name for record in net.operators[-1:] if record.pieces == 1]
    pieced = [record.name for record in net.operators if record.pieces > 1]
    most = MOST_LAYERS - len(last)
    # Evenly spaced places, rounded: the first and the last are among them.
    if len(pieced) > most:
        pieced = [pieced[round(place * (len(pieced) - 1) / (most - 1))] for place in range(most)]
    return [*pieced, *last]
