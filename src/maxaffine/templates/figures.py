"""The figures of templates: what is drawn, and the words beside it; the drawing itself is the room drawing's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from maxaffine.drawing import Panel, Spread, panel_figure, short, spread_figure
from maxaffine.errors import BadInput
from maxaffine.graph import as_tuple
from maxaffine.network import Task
from maxaffine.templates.comparison import array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maxaffine.templates.memorization import Memorization
    from maxaffine.templates.result import Templates

LARGEST = 3
COLORS = ("red", "green", "blue")


def templates_figure(
    templates: Templates, samples: Sequence[int], places: Sequence[int] | None, part: int, channels: str, share: float
) -> Figure:
    """Draw inputs beside their templates.

    Args:
        templates: The templates.
        samples: Numbers of the samples, one per row.
        places: Places of the units; None for the largest of each sample.
        part: Which floating-point input.
        channels: ``"sum"`` or ``"each"``.
        share: Share of a row's values that lie within its colors.

    Returns:
        The figure.

    Raises:
        BadInput: When ``channels`` is neither, or asks for the channels of an input that has none.
    """
    rows = [_row(templates, n, largest(templates, n) if places is None else places, part) for n in samples]
    if channels == "each":
        if templates.inputs[part].dim() != 4:
            raise BadInput(
                f"channels: inputs of shape {tuple(templates.inputs[part].shape[1:])} have no channels to show"
            )
        rows = [channel for row in rows for channel in _channels(row)]
    elif channels != "sum":
        raise BadInput(f"channels: {channels!r} is neither 'sum' nor 'each'")
    return panel_figure(rows, share, common=channels == "each")


def layers_figure(layers: Mapping[str, Templates], sample: int, share: float) -> Figure:
    """Draw one input and, in a row for each layer, the templates of its chosen units.

    Args:
        layers: Templates by layer.
        sample: Number of the sample.
        share: Share of a row's values that lie within its colors.

    Returns:
        The figure.
    """
    rows = []
    for name, templates in layers.items():
        row = _row(templates, sample, largest(templates, sample), 0)
        rows.append([Panel(row[0].array, f"layer {short(name, 24)}\n(input x)", "input"), *row[1:]])
    return panel_figure(rows, share)


def memorization_figure(found: Memorization) -> Figure:
    """Draw how the measures of memorization spread over the inputs.

    Args:
        found: The measures.

    Returns:
        The figure.
    """
    if found.test is None:
        title = ""
    elif found.reason:
        title = f"memorized share: cannot be told, {found.reason}"
    else:
        title = f"memorized share of the alignment: {found.score:.3f} ± {found.standard_error:.3f}"
    return spread_figure(memorization_spreads(found), "optimum", title)


def memorization_spreads(found: Memorization) -> list[Spread]:
    """The panels of the figure of a memorization, each to be drawn alone.

    Args:
        found: The measures.

    Returns:
        How each measure spreads over training and test inputs, its optimum marked.
    """
    parts = {"training": found.train} if found.test is None else {"training": found.train, "test": found.test}
    optimum = found.train.optimum
    panels = [
        ("own template", "cos(x, A_y)", "own", optimum["own"]),
        ("other templates", "mean of cos(x, A_c), c ≠ y", "others", optimum["others"]),
        ("lengths", "mean of |A_c| / |A_y|, c ≠ y", "ratios", optimum["ratio"]),
        ("all templates", "alignment with the optimum", "alignments", optimum["alignment"]),
    ]
    return [
        Spread(title, label, {name: array(getattr(part, field)) for name, part in parts.items()}, mark)
        for title, label, field, mark in panels
    ]


def largest(templates: Templates, sample: int, count: int = LARGEST) -> list[int]:
    """Places of the largest units of a sample, the largest first; of values, which do not compete, the first ones.

    Args:
        templates: The templates.
        sample: Number of the sample.
        count: How many.

    Returns:
        At most ``count`` places.
    """
    if templates.task not in (None, Task.CLASSES):
        return list(range(len(templates.units)))[:count]
    return templates.values[sample].argsort(descending=True, stable=True)[:count].tolist()


def _row(templates: Templates, n: int, places: Sequence[int], part: int) -> list[Panel]:
    row = [Panel(array(templates.inputs[part][n]), f"input x\n(sample {n})", "input")]
    for place in places:
        # One pull per unit: the templates that are not drawn are not built.
        values = as_tuple(templates.template(templates.units[place]))[part][n]
        inner, offset = float(templates.inner[n, place]), float(templates.offsets[n, place])
        sign = "+" if offset >= 0 else "−"
        numbers = f"{inner:.2f} {sign} {abs(offset):.2f} = {float(templates.values[n, place]):.2f}".replace("-", "−")
        row.append(Panel(array(values), f"{short(templates.names[place], 26)}\n⟨A, x⟩ + b = {numbers}"))
    return row


def _channels(row: Sequence[Panel]) -> list[list[Panel]]:
    count = len(row[0].array)
    names = COLORS if count == len(COLORS) else [f"channel {number}" for number in range(count)]
    return [
        [Panel(panel.array[number], f"{panel.words}\n{name}", panel.role) for panel in row]
        for number, name in enumerate(names)
    ]
