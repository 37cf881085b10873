"""The figures of a report, each of which stands alone; computes nothing but colors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine._drawing import (
    Panel,
    input_pixels,
    new_figure,
    panel_figure,
    png_of,
    say,
    short,
    signed_pixels,
    template_pixels,
    whole_sheet,
)
from maxaffine._generators import Manifold
from maxaffine._partition import PlanePartition, Surface
from maxaffine._report.facts import Neighborhood, Neighborhoods
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.fit import Fit
from maxaffine._report.sections.generated import Generated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ODD = "#b2182b"
# Okabe and Ito's, which color-blind readers can tell apart too.
BAR = "#0072B2"
BARS = (BAR, "#E69F00", "#009E73", "#CC79A7")
# Of dots, which are small: seen on light and on dark pages.
TRAINING, TEST = "#7f8a94", "#D55E00"
LEGEND_STEPS = 129
# Of the composed figures, in inches.
GAP, MARGIN, LINE = 0.15, 0.15, 0.15
THUMBNAIL, NAMES = 0.85, 1.5
BAR_HEIGHT, BARS_WIDTH, NARROW = 0.24, 6.4, 4.6
# Of a partitioned plane: inches of one panel, and outputs that are values with a panel each.
SIDE, MOST_VALUES = 3.6, 3
MOST_DOTS, MOST_EDGES = 400, 3000
# A panel's shorter side beside its longer one, at least.
NARROWEST = 0.4

# Number of a training input (or of the query), caption, and whether the caption is a warning.
Example = tuple[int, str, bool]
QUERY = -1


def input_panel(array: np.ndarray, largest: int | None = None) -> bytes:
    """One input as a PNG file without any text; its longest side is at most ``largest`` pixels."""
    return png_of(input_pixels(array), largest)


def template_panel(array: np.ndarray, scale: float, largest: int | None = None) -> bytes:
    """One template, summed over channels, likewise, in colors (or bars) that end at ``-scale`` and ``scale``."""
    return png_of(template_pixels(array, scale), largest)


def legend_panel() -> bytes:
    """The colors of the templates as a PNG file of one row, the most negative at the left."""
    return png_of(signed_pixels(np.linspace(-1, 1, LEGEND_STEPS)[None], 1.0))


def answer_figure(answer: Answer, rate: int | float | None = None) -> Figure:
    """Draw one input with the templates of its outputs in one scale and, below, what each entry of the input adds."""
    words = f"test input {answer.index}" + (f"\nclass: {short(answer.label, 24)}" if answer.label else "")
    row = [Panel(answer.input, words, "input", rate)]
    for split in answer.splits:
        sign = "+" if split.offset >= 0 else "−"
        parts = f"{split.inner:.2f} {sign} {abs(split.offset):.2f} = {split.value:.2f}".replace("-", "−")
        row.append(Panel(split.template, f"template of {short(split.name, 20)}\n⟨A, x⟩ + b = {parts}", rate=rate))
    rows = [row]
    if (decided := answer.runner_up) is not None:
        names = f"{short(decided.winner, 14)} − {short(decided.loser, 14)}"
        rows.append(
            [
                Panel(decided.template, f"{names}\ndifference of the templates", "alone", rate),
                Panel(decided.shares, f"{names}\neach entry's share of the margin", "alone", rate),
            ]
        )
    elif answer.shares is not None:
        rows.append([Panel(answer.shares, "each entry's share of the match", "alone", rate)])
    return panel_figure(rows, share=1.0)


def offsets_figure(answer: Answer, titles: Mapping[str, str]) -> Figure:
    """Draw where the offsets of the shown outputs come from, a bar for each operator and output."""
    names = [titles.get(name, name) for name, _ in answer.splits[0].contributions] + ["all others"]
    series = {split.name: [*(value for _, value in split.contributions), split.others] for split in answer.splits}
    return bars_figure(names, series, "part of the offset b", f"test input {answer.index}")


def bars_figure(names: Sequence[str], series: Mapping[str, Sequence[int | float]], label: str, title: str) -> Figure:
    """Draw numbers as bars from a line at zero, the first at the top."""
    figure = new_figure(BARS_WIDTH, 0.9 + _bars_step(series) * len(names), constrained=True)
    # After the figure, which says what to install where matplotlib is absent.
    from matplotlib import colormaps

    colors = [colormaps["cividis"](place / len(series)) for place in range(len(series))]
    _draw_bars(figure.subplots(), names, series, label, title, colors if len(series) > 1 else [BAR])
    _name_series(figure, series)
    return figure


def stacked_bars_figure(
    names: Sequence[str], panels: Sequence[Mapping[str, Sequence[float]]], label: str, titles: Sequence[str]
) -> Figure:
    """Draw several such panels one below the other, each in its own scale, in colors for light and dark pages."""
    heights = [0.5 + _bars_step(series) * len(names) for series in panels]
    figure = new_figure(NARROW, 0.4 + sum(heights), constrained=True)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, series, title in zip(axes, panels, titles, strict=True):
        _draw_bars(ax, names, series, label, title, BARS)
    _name_series(figure, panels[0])
    return figure


def _bars_step(series: Mapping[str, Sequence[int | float]]) -> float:
    """Inches for the bars of one name."""
    return BAR_HEIGHT * (0.6 + 0.4 * len(series))


def _draw_bars(
    ax: Axes,
    names: Sequence[str],
    series: Mapping[str, Sequence[int | float]],
    label: str,
    title: str,
    colors: Sequence[Any],
) -> None:
    # The bars of one name stand around its tick, together 0.8 of the way to the next name's.
    thick = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        rows = np.arange(len(names)) + (place - (len(series) - 1) / 2) * thick
        ax.barh(rows, values, thick * 0.92, color=colors[place % len(colors)], label=f" {short(name, 24)}")
    ax.axvline(0, color="black", linewidth=0.7)
    ax.set_yticks(range(len(names)), [short(name, 34) for name in names], parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(label, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, fontsize=10, loc="left", parse_math=False)


def _name_series(figure: Figure, series: Mapping[str, Sequence[int | float]]) -> None:
    """The legend, where there are several."""
    if len(series) > 1:
        legend = figure.legend(fontsize=8, loc="outside lower center", ncols=min(4, len(series)), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)


def predicted_figure(fit: Fit) -> Figure:
    """Draw predicted against actual values, a panel for each output; on the line from corner to corner they agree."""
    shown = range(min(len(fit.names), MOST_VALUES))
    figure = new_figure(len(shown) * SIDE, SIDE, constrained=True)
    for unit, ax in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
        pairs = {part: (fit.targets[part][:, unit], fit.values[part][:, unit]) for part in fit.targets}
        ends = [extreme([extreme(one) for pair in pairs.values() for one in pair]) for extreme in (np.min, np.max)]
        ax.plot(ends, ends, color="black", linewidth=0.7)
        for (part, pair), color in zip(pairs.items(), (TRAINING, TEST), strict=True):
            # A page has no room for a hundred thousand dots; evenly spaced ones look the same.
            x, y = (one[:: max(1, len(one) // MOST_DOTS)] for one in pair)
            ax.plot(x, y, "o", color=color, markersize=3.5, alpha=0.8, markeredgewidth=0, label=part)
        ax.set_title(short(fit.names[unit], 34), fontsize=10, loc="left", parse_math=False)
        ax.set_xlabel("actual", fontsize=9)
        ax.set_ylabel("predicted", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return figure


def plane_figure(partition: PlanePartition, names: Sequence[str] | None = None) -> Figure:
    """Draw a partition by what the network answers, by the norm of its slopes and by the operator that cut last."""
    partition.name_answers(names)
    values = range(min(prod(partition.graph.values[partition.number].units), MOST_VALUES))
    # Outputs that are a picture each are colored by the norm alone, so the first two may be the same.
    colorings = dict.fromkeys((partition.coloring, "norm", "depth"))
    panels = [(coloring, output) for coloring in colorings for output in (values if coloring == "value" else (0,))]
    # In the shape of the plane, or there would be empty bands above and below it.
    wide, high = np.ptp(partition.cells.points, axis=0).tolist()
    width, height = (SIDE * max(side / max(wide, high), NARROWEST) for side in (wide, high))
    figure = new_figure(len(panels) * (width + 0.9), height + 0.9, constrained=True)
    for ax, (coloring, output) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        partition.plot(ax, coloring, output=output, names=names)
    return figure


def neighbors_figure(query: Neighborhood, found: Neighborhoods) -> Figure:
    """Draw one test input and, in a row for each operator, its nearest training inputs."""
    # The query stands in a column of its own, in the first row alone.
    first: list[Example | None] = [(QUERY, f"test input {query.index}\n{short(query.label, 14)}", False)]
    rows = []
    for row, (name, layer) in enumerate(query.layers):
        captions = (f"{'' if near.same else '≠ '}{short(near.label, 12)}\nd = {near.distance:.3f}" for near in layer)
        nearest = [(near.index, caption, not near.same) for near, caption in zip(layer, captions, strict=True)]
        rows.append((textwrap.fill(name, 24), [*(first if row == 0 else [None]), *nearest]))
    return examples_figure(rows, {**found.inputs, QUERY: query.input})


def examples_figure(rows: Sequence[tuple[str, Sequence[Example | None]]], inputs: Mapping[int, np.ndarray]) -> Figure:
    """Draw rows of inputs, each with words at its left and under a caption of its own; None leaves a gap."""
    step, row_height = THUMBNAIL + GAP, THUMBNAIL + 2.5 * LINE
    left = MARGIN + NAMES
    most = max(len(examples) for _, examples in rows)
    figure, ax = whole_sheet(left + most * step + MARGIN, 2 * MARGIN + len(rows) * row_height)
    for row, (words, examples) in enumerate(rows):
        top = MARGIN + row * row_height
        say(ax, words, MARGIN, top + 2 * LINE)
        for column, example in enumerate(examples):
            if example is not None:
                number, caption, warning = example
                say(ax, caption, left + column * step, top, ODD if warning else "black")
                _place(ax, inputs[number], left + column * step, top + 2 * LINE)
    return figure


def _place(ax: Axes, array: np.ndarray, left: float, top: float) -> None:
    """Put an input into a square, its longer side as long as the square's."""
    # An extent in inches of the sheet, in which down is positive: so the lower edge is named before the upper one.
    pixels = input_pixels(array)
    height, width = (THUMBNAIL * length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    ax.imshow(pixels, extent=(left, left + width, top + height, top), aspect="auto")


def stretch_figure(found: Generated) -> Figure:
    """Draw a generator's singular values by number, median and range, and how log volumes spread."""
    figure = new_figure(BARS_WIDTH, 2.8, constrained=True)
    left, right = figure.subplots(1, 2)
    places, values = np.arange(1, found.spectrum.shape[1] + 1), np.maximum(found.spectrum, np.finfo(float).tiny)
    left.fill_between(places, values.min(0), values.max(0), color=BAR, alpha=0.2)
    left.plot(places, np.median(values, 0), color=BAR, marker=".")
    left.set(yscale="log", xlabel="number", title="singular values")
    finite = found.volumes[np.isfinite(found.volumes)]
    right.hist(finite, bins=20, color=BAR)
    right.set(xlabel="log volume", ylabel="latents", title="volume of a unit of latents")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def samples_figure(found: Generated) -> Figure:
    """Draw the samples of the smallest and of the largest volume, in two rows."""
    rows = []
    for words, samples in (("most typical", found.typical), ("least typical", found.unusual)):
        rows.append([Panel(item, words if place == 0 else "", "input") for place, item in enumerate(samples)])
    return panel_figure(rows)


def level_figure(found: Surface) -> Figure:
    """Draw the polygons of a level set."""
    figure = new_figure(5.0, 4.5, constrained=True)
    ax = figure.add_subplot(projection="3d")
    found.plot(ax, linewidth=0.2 if len(found) < MOST_EDGES else 0)
    # So many polygons as pixels: as shapes they would take a browser seconds.
    ax.collections[0].set_rasterized(len(found) > MOST_EDGES)
    return figure


def surface_figure(found: Manifold) -> Figure:
    """Draw the latent plane in colors of log volume, beside what is generated there."""
    figure = new_figure(9.0, 4.2, constrained=True)
    found.plot(figure.subplots())
    return figure
