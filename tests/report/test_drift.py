"""The picture of a drift shows its numbers."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from maxaffine._codes import Drift
from maxaffine._report import drift_figure


def drawn(operators: int, moments: int = 4) -> Drift:
    distances = torch.rand(operators, moments, moments, dtype=torch.float64)
    return Drift(tuple(f"_{i}.relu" for i in range(operators)), distances + distances.mT)


def values(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]


def test_lines_are_the_distances() -> None:
    drift = drawn(3)
    drift.distances[1, 0, 1] = 0
    figure = drift_figure(drift)
    to_next, to_last = figure.axes
    for shown, numbers in ((values(to_next), drift.steps), (values(to_last), drift.to_last[:, :-1])):
        for line, row in zip(shown, numbers.tolist(), strict=True):
            assert all(y == number or (math.isnan(y) and number == 0) for y, number in zip(line, row, strict=True))
    assert math.isnan(values(to_next)[1][0])
    assert np.asarray(to_next.get_lines()[0].get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(to_last.get_lines()[0].get_xdata()).tolist() == [0, 1, 2]
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(("operators", "named"), [(1, 1), (12, 12), (40, 12)])
def test_the_legend_names_some_of_many(operators: int, named: int) -> None:
    legend = drift_figure(drawn(operators)).axes[1].get_legend()
    assert legend is not None
    texts = [text.get_text().strip() for text in legend.get_texts()]
    assert len(texts) == named and (texts[0], texts[-1]) == ("_0.relu", f"_{operators - 1}.relu")
