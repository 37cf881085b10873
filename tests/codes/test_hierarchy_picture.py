"""The picture of a region hierarchy: its blocks are the regions, nested from column to column."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from maxaffine._codes import Codes, RegionHierarchy, region_hierarchy
from maxaffine._codes.hierarchy import BLOCK, CLASSES, HEIGHT
from maxaffine.errors import BadInput


def drawn(batch: int = 60, labeled: bool = True, depth: int = 3) -> RegionHierarchy:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (batch,), generator=generator)
    tensors = {f"{i}.$relu$": (torch.rand(batch, 2, generator=generator) < 0.4, 2) for i in range(depth)}
    return region_hierarchy(Codes.from_tensors(tensors), labels if labeled else None)


def blocks(ax: Axes) -> list[list[tuple[float, float, str]]]:
    """Top, bottom and color of the blocks of every column, from above."""
    columns = []
    for collection in ax.collections:
        assert isinstance(collection, PolyCollection)
        colors: Any = collection.get_facecolor()
        corners = [np.asarray(path.vertices) for path in collection.get_paths()]
        columns.append(
            [(float(c[:, 1].min()), float(c[:, 1].max()), to_hex(f)) for c, f in zip(corners, colors, strict=True)]
        )
        assert all(c[:, 0].max() - c[:, 0].min() == pytest.approx(BLOCK) for c in corners)
    return columns


def test_blocks_are_the_regions_and_their_colors_the_commonest_classes() -> None:
    hierarchy = drawn()
    *columns, classes = blocks(hierarchy.plot())
    assert hierarchy.labels is not None
    for level, column in zip(hierarchy.levels, columns, strict=True):
        expected = Counter()
        for region in range(level.together.regions):
            inside = hierarchy.labels[level.together.ids == region].tolist()
            commonest = min(set(inside), key=lambda c: (-inside.count(c), c))
            expected[(len(inside), CLASSES[commonest])] += 1
        assert Counter((round((low - top) / HEIGHT * 60), color) for top, low, color in column) == expected
    shown = Counter()
    for top, low, color in classes:
        shown[color] += round((low - top) / HEIGHT * 60)
    assert shown == Counter(CLASSES[c] for c in hierarchy.labels.tolist())


@pytest.mark.parametrize("labeled", [True, False])
def test_blocks_are_nested_and_fill_the_column(labeled: bool) -> None:
    columns = blocks(drawn(labeled=labeled).plot())
    for column in columns:
        assert column[0][0] == 0 and column[-1][1] == pytest.approx(HEIGHT)
        assert all(low == pytest.approx(top) for (_, low, _), (top, _, _) in zip(column, column[1:], strict=False))
    for before, column in zip(columns[:3], columns[1:3], strict=False):
        cuts = [top for top, _, _ in column]
        assert all(min(abs(cut - top) for cut in cuts) < 1e-9 for top, _, _ in before)
    assert len(columns) == 3 + labeled


def test_words_say_the_numbers() -> None:
    hierarchy = drawn()
    texts = [text.get_text() for text in hierarchy.plot(class_names=["a", "b", "c", "$d$"]).texts]
    found = hierarchy.levels[1].together
    assert {"0.$relu$", "class", "60 inputs", "$d$"} <= set(texts)
    assert f"{found.regions} regions\n{found.entropy:.2f} bits\npurity {found.purity:.2f}" in "".join(texts)


def test_long_hierarchies_show_some_depths() -> None:
    texts = [text.get_text() for text in drawn(depth=20).plot(columns=3).texts]
    assert [text for text in texts if "relu" in text] == ["0.$relu$", "10.$relu$", "19.$relu$"]


def test_axes_of_the_callers_are_drawn_in() -> None:
    axes = Figure().subplots(1, 2)
    assert drawn().plot(axes[0]) is axes[0] and len(axes[0].collections) == 4 and not axes[1].collections


def test_bad_arguments_are_refused() -> None:
    hierarchy = drawn()
    with pytest.raises(BadInput, match="columns: 0 is less than 1; give"):
        hierarchy.plot(columns=0)
    with pytest.raises(BadInput, match="class_names: 3 names, but class 3"):
        hierarchy.plot(class_names=["a", "b", "c"])
    codes = Codes.from_tensors({"relu": (torch.rand(3, 2) < 0.5, 2)})
    for labels in ([0, 1, -1], [0, 1, 10]):
        with pytest.raises(BadInput, match="colors tell 10 apart; number them from 0"):
            region_hierarchy(codes, labels).plot()
