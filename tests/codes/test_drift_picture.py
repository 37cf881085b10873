"""The picture of a drift shows its numbers."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxaffine._codes import Drift
from maxaffine.errors import BadInput


def drawn(operators: int, moments: int = 4) -> Drift:
    distances = torch.rand(operators, moments, moments, dtype=torch.float64)
    return Drift(tuple(f"_{i}.relu" for i in range(operators)), distances + distances.mT)


def values(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]


def test_lines_are_the_distances() -> None:
    drift = drawn(3)
    drift.distances[1, 0, 1] = 0
    for to, numbers in (("next", drift.steps), ("last", drift.to_last[:, :-1])):
        axes = drift.plot(to=to)
        for line, row in zip(values(axes), numbers.tolist(), strict=True):
            assert all(y == number or (math.isnan(y) and number == 0) for y, number in zip(line, row, strict=True))
        assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [0, 1, 2]
        assert to in axes.get_title()
        figure: Any = axes.figure
        figure.savefig(io.BytesIO())
    assert math.isnan(values(drift.plot(to="next"))[1][0])
    with pytest.raises(BadInput, match="to: 'first' is neither 'last' nor 'next'"):
        drift.plot(to="first")
    axes = drift.plot(cmap="magma", linewidth=0.4, size=3.0)
    sheet: Any = axes.figure
    assert sheet.get_size_inches()[0] == 3 and {line.get_linewidth() for line in axes.get_lines()} == {0.4}
    assert axes.get_lines()[0].get_color() == colormaps["magma"](0.0) != drift.plot().get_lines()[0].get_color()


def test_axes_of_the_callers_are_drawn_in() -> None:
    axes = Figure().subplots(1, 2)
    assert drawn(2).plot(axes[1]) is axes[1] and len(axes[1].get_lines()) == 2 and not axes[0].get_lines()


@pytest.mark.parametrize(("operators", "named"), [(1, 1), (12, 12), (40, 12)])
def test_the_legend_names_some_of_many(operators: int, named: int) -> None:
    legend = drawn(operators).plot().get_legend()
    assert legend is not None
    texts = [text.get_text().strip() for text in legend.get_texts()]
    assert len(texts) == named and (texts[0], texts[-1]) == ("_0.relu", f"_{operators - 1}.relu")
