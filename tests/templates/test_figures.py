"""What the figures of templates show, read back from matplotlib."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import maxaffine as ma
from maxaffine._drawing import template_pixels
from maxaffine._templates import Templates, layer_templates


def _templates(*shape: int, classes: int = 4) -> Templates:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 6), nn.ReLU(), nn.Linear(6, classes)).eval()
    x = torch.rand(2, *shape)
    return ma.capture(module, x).templates(x, names=[f"name {number}" for number in range(classes)])


def _titles(drawn: Any) -> list[str]:
    return [ax.get_title(loc="left") for ax in drawn.child_axes if ax.get_title(loc="left")]


def test_the_largest_units_with_their_sums() -> None:
    result = _templates(1, 6, 6)
    drawn = result.plot([0, 1])
    titles = _titles(drawn)
    assert len(titles) == 8 and titles[0] == "input x\n(sample 0)"
    for row in (0, 1):
        for column, unit in enumerate(result.values[row].argsort(descending=True)[:3].tolist(), start=1):
            title = titles[4 * row + column].replace("−", "-")
            assert title.startswith(f"name {unit}\n")
            inner, sign, offset, value = re.search(r"= (\S+) ([+-]) (\S+) = (\S+)", title).groups()  # pyright: ignore
            assert float(inner) == pytest.approx(float(result.inner[row, unit]), abs=0.006)
            assert float(sign + offset) == pytest.approx(float(result.offsets[row, unit]), abs=0.006)
            assert float(value) == pytest.approx(float(result.values[row, unit]), abs=0.006)


def test_the_map_is_the_template_in_a_symmetric_scale() -> None:
    result = _templates(1, 6, 6)
    drawn = result.plot(1, units=["name 2"], share=1.0)
    slopes = result.slopes
    assert isinstance(slopes, torch.Tensor)
    template = slopes[1, 2].double().numpy()
    expected = template_pixels(template, float(np.abs(template).max()))
    assert np.array_equal(drawn.child_axes[1].images[0].get_array(), expected)  # pyright: ignore[reportArgumentType]
    scale = [label.get_text() for label in drawn.child_axes[2].get_yticklabels()]
    end = f"{np.abs(template).max():.2g}"
    assert scale == [f"−{end}", "0", end]


def test_a_single_sample_and_unit_may_stand_alone() -> None:
    result = _templates(1, 6, 6)
    assert _titles(result.plot(np.int64(1), "name 2"))[1].startswith("name 2\n")
    for units in (3, np.int64(3), torch.tensor(3), torch.tensor([3]), [np.int64(3)]):
        titles = _titles(result.plot(0, units))
        assert len(titles) == 2 and titles[1].startswith("name 3\n")
    with pytest.raises(ma.BadInput, match="unit: 'name' is not among"):
        result.plot(units="name")
    with pytest.raises(ma.BadInput, match="samples: none is chosen"):
        result.plot([])


def test_channels_are_summed_or_shown_one_by_one() -> None:
    result = _templates(3, 6, 6)
    assert len(_titles(result.plot())) == 4
    drawn: Any = result.plot(channels="each")
    titles = _titles(drawn)
    assert [title.splitlines()[-1] for title in titles[::4]] == ["red", "green", "blue"]
    labels = {ax.get_yticklabels()[2].get_text() for ax in drawn.child_axes if not ax.get_title(loc="left")}
    assert len(labels) == 1, "the channels share one scale"


@pytest.mark.parametrize(("shape", "lines", "bars"), [((200,), 1, 0), ((2, 40), 2, 0), ((13,), 0, 13)])
def test_series_become_lines_and_tables_bars(shape: tuple[int, ...], lines: int, bars: int) -> None:
    result = _templates(*shape)
    for drawn in (result.plot(), result.runner_up().plot()):
        template = drawn.child_axes[1]
        # One more line at zero.
        assert (len(template.lines) - 1, len(template.patches)) == (lines, bars)
        low, high = template.get_ylim()
        assert low == -high


def test_a_comparison_shows_the_difference_and_its_shares() -> None:
    result = _templates(1, 6, 6)
    titles = _titles(result.runner_up().plot(1))
    assert len(titles) == 5 and "−" in titles[3] and "share" in titles[4]


def test_layers_have_a_row_each() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()
    x = torch.rand(2, 1, 6, 6)
    layers = layer_templates(ma.capture(module, x), x)
    titles = _titles(layers.plot(1))
    assert titles[0].startswith("layer 1") and titles[4].startswith("layer 3") and len(titles) == 8
    assert "1: 6 units" in repr(layers) or "1: " in repr(layers)


def test_notebook() -> None:
    result = _templates(1, 6, 6)
    html = result._repr_html_()
    assert html.count("<tr>") == 1 + 2 * 4 and "name 3" in html and "Templates of 4 units of the output" in html
    picture = re.search(r'base64,([^"]+)"', html)
    assert picture is not None
    assert Image.open(io.BytesIO(base64.b64decode(picture[1]))).width > 300


def test_what_has_no_picture_is_refused_in_a_figure_and_told_in_a_notebook() -> None:
    _templates(1, 3, 4, 4).plot()  # a volume is drawn as slices
    result = _templates(1, 3, 4, 4, 2)
    with pytest.raises(ma.BadInput, match=r"one of shape \(1, 3, 4, 4, 2\) has no plain picture"):
        result.plot()
    assert "no plain picture" in result._repr_html_() and "<table>" in result._repr_html_()


def test_names_in_html_are_escaped() -> None:
    module = nn.Linear(3, 2).eval()
    result = ma.capture(module, torch.zeros(1, 3)).templates(torch.ones(1, 3), names=["<b>", "&"])
    assert "<b>&" not in result._repr_html_() and "&lt;b&gt;" in result._repr_html_()


def test_without_matplotlib_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _templates(1, 6, 6)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ma.MaxAffineError, match=r"a figure needs matplotlib.*maxaffine\[report\]"):
        result.plot()
    assert "<table>" in result._repr_html_()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("samples: 2 is not one of the 2 places", {"samples": 2}),
        ("unit: 9 is not among", {"units": [9]}),
        ("input: 1 is not one of the 1 places", {"input": 1}),
        ("channels: 'rgb' is neither", {"channels": "rgb"}),
        (r"share: 0.0 is not in \(0, 1\]", {"share": 0.0}),
    ],
)
def test_bad_input(words: str, options: dict) -> None:
    with pytest.raises(ma.BadInput, match=words):
        _templates(1, 6, 6).plot(**options)


def test_axes_of_the_callers_are_drawn_in() -> None:
    figure = Figure(figsize=(6, 3))
    left, right = figure.subplots(1, 2)
    result = _templates(1, 6, 6)
    assert result.plot(ax=left) is left and result.runner_up().plot(ax=right) is right
    assert len(_titles(left)) == 4 and len(_titles(right)) == 5
    figure.draw_without_rendering()
    outer = left.get_window_extent()
    assert all(outer.x0 <= ax.get_window_extent().x0 <= outer.x1 for ax in left.child_axes)


def test_channels_of_a_table_are_refused() -> None:
    with pytest.raises(ma.BadInput, match=r"inputs of shape \(13,\) have no channels"):
        _templates(13).plot(channels="each")


def test_colors_and_size_that_are_asked_for() -> None:
    result = _templates(1, 6, 6)
    assert isinstance(result.slopes, torch.Tensor)
    template = result.slopes[0, 2].double().numpy()
    amap, layers = (
        result.affine_map,
        layer_templates(ma.capture(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), *_x()), *_x()),
    )
    cases: list[tuple[Any, dict[str, Any]]] = [
        (result, {"units": [2]}),
        (amap, {"units": [2]}),
        (result.runner_up(), {}),
        (layers, {}),
    ]
    for found, options in cases:
        drawn = found.plot(cmap="PuOr", size=3.0, share=1.0, **options)
        assert drawn.figure.get_size_inches()[0] == 3
        plain = found.plot(share=1.0, **options)
        signed, before = (np.asarray(one.child_axes[1].images[0].get_array()) for one in (drawn, plain))
        assert not np.array_equal(signed, before)
        if options:
            expected = template_pixels(template, float(np.abs(template).max()), "PuOr")
            assert np.array_equal(signed, expected)
        with pytest.raises(ma.BadInput, match="cmap: 'no such' is not a color map"):
            found.plot(cmap="no such")
        with pytest.raises(ma.BadInput, match="size: 0.0 is not a width"):
            found.plot(size=0.0)


def _x() -> tuple[torch.Tensor]:
    return (torch.rand(2, 1, 6, 6),)
