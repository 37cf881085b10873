"""How arrays of every shape are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from maxaffine import errors
from maxaffine._drawing import (
    Kind,
    Panel,
    channels_of,
    input_pixels,
    is_stack,
    kind_of,
    panel_figure,
    require,
    short,
    shown,
    side_by_side,
    slice_places,
    template_pixels,
    thinned,
)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 28, 28), Kind.PICTURE),
        ((28, 28), Kind.PICTURE),
        ((4, 31), Kind.PICTURE),
        ((4, 32), Kind.LINES),
        ((1, 8), Kind.LINES),
        ((5, 500), Kind.PICTURE),
        ((1, 6, 7, 8), Kind.PICTURE),
        ((12, 7, 8), Kind.PICTURE),
        ((64,), Kind.BARS),
        ((65,), Kind.LINES),
    ],
)
def test_kind_of_shape(shape: tuple[int, ...], kind: Kind) -> None:
    assert kind_of(shape) is kind


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4, 5)])
def test_no_plain_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.BadInput, match="has no plain picture"):
        kind_of(shape)


@pytest.mark.parametrize("shape", [(1, 5, 6, 7), (3, 5, 6, 7), (5, 6, 7)])
def test_volumes_are_drawn_slice_by_slice(shape: tuple[int, ...]) -> None:
    """Every slice stands in one place, as it is drawn alone in the same colors; lines and the rest are neutral."""
    volume = np.random.default_rng(0).uniform(0, 1, shape)
    pixels = [input_pixels(volume), template_pixels(volume, 2.0)]
    slices = np.moveaxis(volume, 1, 0) if len(shape) == 4 else volume
    times, gap = 40 // 7, 1
    for place, one in enumerate(slices):
        top, left = place // 2 * (6 * times + gap), place % 2 * (7 * times + gap)
        alone = [np.asarray(input_pixels(one)), template_pixels(one, 2.0)]
        for whole, part in zip(pixels, alone, strict=True):
            found = whole[top : top + 6 * times, left : left + 7 * times]
            assert np.array_equal(found, part.repeat(times, 0).repeat(times, 1))
    for whole in pixels:
        assert whole.shape == (3 * (6 * times + gap) - gap, 2 * (7 * times + gap) - gap, 3)
        assert (whole[6 * times] == whole[-1, -1]).all()


def test_which_slices_are_shown() -> None:
    assert slice_places((1, 15, 4, 4)) == [0, 2, 4, 5, 7, 9, 10, 12, 14]
    assert slice_places((64, 4, 4)) == [3, 10, 17, 24, 32, 39, 46, 53, 60]
    assert slice_places((1, 2, 4, 4)) == [0, 1]
    assert [is_stack(shape) for shape in ((3, 8, 8), (4, 8, 8), (5, 8, 8), (1, 1, 8, 8), (8, 8), (64,))] == [
        *(False, False, True),
        *(True, False, False),
    ]
    assert [channels_of(shape) for shape in ((3, 8, 8), (5, 8, 8), (2, 8, 8, 8), (8, 8))] == [3, 1, 2, 1]
    assert shown(np.ones((2, 3, 4, 5))).shape == (3, 4, 5) and shown(np.ones((6, 4, 5))).shape == (6, 4, 5)
    picture = np.ones((3, 8, 8))
    assert side_by_side(picture) is picture


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


def test_long_lines_keep_the_ends_of_every_run() -> None:
    values = np.random.default_rng(0).normal(size=16_001)
    places, drawn = thinned(values)
    assert len(drawn) == len(places) == 1600 and (np.diff(places) >= 0).all()
    for low, high, start, end in zip(drawn[::2], drawn[1::2], places[::2], [*places[2::2], len(values)], strict=True):
        assert low == values[start:end].min() and high == values[start:end].max()
    assert np.array_equal(thinned(values[:1600])[1], values[:1600])


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
