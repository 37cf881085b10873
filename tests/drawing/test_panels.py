"""How arrays of every shape are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from maxaffine import errors
from maxaffine._drawing import Kind, Panel, kind_of, panel_figure, require, short


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 28, 28), Kind.PICTURE),
        ((28, 28), Kind.PICTURE),
        ((4, 31), Kind.PICTURE),
        ((4, 32), Kind.LINES),
        ((1, 8), Kind.LINES),
        ((5, 500), Kind.PICTURE),
        ((64,), Kind.BARS),
        ((65,), Kind.LINES),
    ],
)
def test_kind_of_shape(shape: tuple[int, ...], kind: Kind) -> None:
    assert kind_of(shape) is kind


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4)])
def test_no_plain_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.BadInput, match="has no plain picture"):
        kind_of(shape)


def _ends(figure) -> list[str]:
    return [ax.get_yticklabels()[2].get_text() for ax in figure.axes if len(ax.get_yticks()) == 3]


def test_every_row_has_its_own_scale_or_all_have_one() -> None:
    rows = [[Panel(np.eye(3), "x", "input"), Panel(np.full((3, 3), size), "A")] for size in (-1.0, 4.0)]
    assert _ends(panel_figure(rows)) == ["1", "4"]
    assert _ends(panel_figure(rows, common=True)) == ["4", "4"]


def test_a_few_steep_pixels_do_not_fade_the_others() -> None:
    values = np.ones((30, 30))
    values[0, 0] = 100
    rows = [[Panel(values, "A")]]
    assert _ends(panel_figure(rows)) == ["1"]
    assert _ends(panel_figure(rows, share=1.0)) == ["1e+02"]


def test_a_panel_alone_says_its_scale() -> None:
    figure = panel_figure([[Panel(np.eye(3), "A"), Panel(7 * np.eye(3), "A x", "alone")]])
    assert [text.get_text() for text in figure.axes[1].texts] == ["colors from \u22127 to 7"]


def test_zeros_are_drawn() -> None:
    assert _ends(panel_figure([[Panel(np.zeros((3, 3)), "A")]])) == ["1"]


def test_missing_packages_are_named() -> None:
    with pytest.raises(errors.MaxAffineError, match="a map needs nowhere and nobody, which are not installed"):
        require("a map", ("nowhere", "nobody"))
    with pytest.raises(errors.MaxAffineError, match=r"a page needs nowhere, which is not installed; .*\[explore\]"):
        require("a page", ("nowhere",), "explore")


def test_names_are_cut() -> None:
    assert (short("abc", 3), short("abcd", 3)) == ("abc", "ab\u2026")


def test_names_of_channels_hide_no_line() -> None:
    panels = [Panel(np.ones((2, 40)) * [[1.0], [-1.0]], "words") for _ in range(3)]
    figure = panel_figure([panels])
    figure.draw_without_rendering()
    assert [ax.get_legend() is None for ax in figure.axes] == [True, True, False]
    last = figure.axes[-1]
    legend = last.get_legend()
    assert legend is not None
    box, whole = legend.get_window_extent(), figure.bbox
    assert last.get_window_extent().x1 <= box.x0 + 0.5 and box.x1 <= whole.x1
    assert panel_figure([[Panel(np.ones((1, 40)), "words")]]).axes[0].get_legend() is None
