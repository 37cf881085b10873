"""Templates layer by layer: what the largest units inside a network are matched against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maxaffine._drawing import Panel, panel_axes, short
from maxaffine._network import Network
from maxaffine._progress import progress_bar
from maxaffine._templates.comparison import check_place
from maxaffine._templates.layer import find_layer
from maxaffine._templates.result import Templates
from maxaffine._templates.templates import templates
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_LAYERS = 8


class LayerTemplates(Mapping[str, Templates]):
    """Templates by layer, in running order.

    Args:
        found: Layer name to its templates.
    """

    def __init__(self, found: Mapping[str, Templates]) -> None:
        self._found = dict(found)

    def __getitem__(self, layer: str) -> Templates:
        return self._found[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def plot(self, sample: int = 0, share: float = 0.995, ax: Axes | None = None) -> Axes:
        """Draw one input and, in a row for each layer, the templates of its largest units; each row has its own scale.

        Args:
            sample: Which sample of the batch.
            share: Share of a row's values that lie within its colors.
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
        return panel_axes(ax, rows, share)

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
    if len(pieced) > most:
        pieced = [pieced[round(place * (len(pieced) - 1) / (most - 1))] for place in range(most)]
    return [*pieced, *last]
