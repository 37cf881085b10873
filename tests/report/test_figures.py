"""Pictures, read back pixel by pixel."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from maxaffine._drawing import is_image, png, shown, svg
from maxaffine._report import Contents, figures
from maxaffine._report.facts import Neighborhoods


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


def test_gray_images_keep_their_levels() -> None:
    image = np.array([[[0.0, 0.5], [1.0, 0.25]]])
    pixels = _pixels(figures.input_panel(image))
    assert pixels[..., 0].tolist() == pixels[..., 2].tolist() == [[0, 128], [255, 64]]


def test_color_images_keep_their_colors_and_other_channels_are_averaged() -> None:
    colors = np.zeros((3, 1, 2))
    colors[0, 0, 0] = colors[2, 0, 1] = 1
    assert _pixels(figures.input_panel(colors))[0, :, :3].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert _pixels(figures.input_panel(np.stack([np.ones((1, 1)), np.zeros((1, 1))])))[0, 0, 0] == 128


def test_values_outside_the_unit_interval_are_brought_into_it() -> None:
    assert _pixels(figures.input_panel(np.array([[-1.0, 3.0, 1.0]])))[0, :, 0].tolist() == [0, 255, 128]


def test_signs_and_sizes_of_a_template_are_told_by_color() -> None:
    values = np.array([[-2.0, -0.5, 0.0, 0.5, 2.0]])
    red, _, blue = np.moveaxis(_pixels(figures.template_panel(values, 2.0))[0, :, :3], -1, 0)
    assert (red + 1 < blue).tolist() == [True, True, False, False, False]
    assert (red > blue + 1).tolist() == [False, False, False, True, True]
    assert red[2] > 240
    lightness = red + blue
    assert lightness[0] < lightness[1] < lightness[2] > lightness[3] > lightness[4]


def test_the_scale_is_symmetric() -> None:
    """Opposite templates look alike but for the two colors, whatever their range."""
    values = np.linspace(-1, 1, 9)[None, None]
    legend = _pixels(figures.legend_panel())[0]
    for pixels, position in zip(_pixels(figures.template_panel(values, 1.0))[0], (values[0, 0] + 1) * 64, strict=True):
        assert abs(pixels - legend[int(position)]).max() <= 2
    whole = _pixels(figures.template_panel(values / 4, 1.0))[0]
    assert abs(whole[0] - legend[48]).max() <= 2


def test_channels_are_summed() -> None:
    template = np.stack([np.eye(2), -np.eye(2), np.ones((2, 2))])
    assert shown(template).tolist() == [[1, 1], [1, 1]]
    assert shown(np.arange(3.0)).tolist() == [0, 1, 2]


def test_empty_templates_are_white() -> None:
    assert _pixels(figures.template_panel(np.zeros((1, 2, 2)), 0.0))[..., :3].min() > 240


def test_large_pictures_are_reduced() -> None:
    assert _pixels(figures.input_panel(np.zeros((1, 300, 100)), largest=60)).shape[:2] == (60, 20)
    assert _pixels(figures.template_panel(np.zeros((1, 30, 20)), 1.0, largest=60)).shape[:2] == (30, 20)


def test_the_channels_of_a_signal_stand_one_below_the_other() -> None:
    pixels = _pixels(figures.input_panel(np.stack([np.linspace(-1, 1, 40), np.full(40, 0.5)])))
    first, second = np.split(pixels[..., 3] > 0, 2)
    middle = len(first) // 2
    assert first[:middle, -1].all() and not first[:middle, 0].any(), "from below the line to above it"
    assert second[:middle].sum(0) == pytest.approx(middle / 2, abs=1) and not second[middle + 1 :].any()


def test_long_signals_fill_what_they_pass_through() -> None:
    pixels = _pixels(figures.input_panel(np.tile([-1.0, 0.5], 1000)))
    assert pixels.shape[1] == 160
    middle, drawn = len(pixels) // 2, pixels[..., 3] > 0
    assert drawn[middle + 1 :].all() and drawn[:middle].sum(0) == pytest.approx(middle / 2, abs=1)


@pytest.mark.parametrize("shape", [(7,), (160,), (2, 3, 2, 2, 5)])
def test_other_inputs_become_bars(shape: tuple[int, ...]) -> None:
    assert not is_image(shape)
    values = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    pixels = _pixels(figures.template_panel(values, 1.0))
    blue, red = pixels[-2, 0], pixels[1, -1]
    assert blue[2] > blue[0] and red[0] > red[2]
    assert pixels[1, 0, 3] == pixels[-2, -1, 3] == 0, "the rest is transparent"
    heights = (pixels[:48, :, 3] > 0).sum(0) - (pixels[49:, :, 3] > 0).sum(0)
    expected = np.repeat(values.ravel(), pixels.shape[1] // values.size)
    assert heights == pytest.approx(48 * expected, abs=1)
    assert pixels[pixels.shape[0] // 2, :, 3].min() == 255, "the line at zero"
    inputs = _pixels(figures.input_panel(values))
    assert inputs[-2, 0].tolist() == inputs[1, -1].tolist()


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_composed_figures_say_the_numbers(contents: Contents) -> None:
    for one in contents.answers:
        figure = figures.answer_figure(one)
        first, *titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
        assert first == f"test input {one.index}\nclass: {one.label}"
        for title, split in zip(titles, one.splits, strict=False):
            assert split.name in title and title.endswith(f"= {split.value:.2f}".replace("-", "−"))
        assert one.runner_up is not None and len(titles) == len(one.splits) + 2
        assert len(png(figure)) > 1000
    found = contents.neighbors
    assert isinstance(found, Neighborhoods)
    figure = figures.neighbors_figure(found.queries[0], found)
    for _, layer in found.queries[0].layers:
        assert all(any(text.endswith(f"d = {one.distance:.3f}") for text in _texts(figure)) for one in layer)
    assert len(figure.axes[0].images) == 1 + found.count * len(found.queries[0].layers)
    assert len(png(figure)) > 1000


def test_bars_are_as_long_as_the_numbers() -> None:
    figure = figures.bars_figure(["first", "$second$"], {"a": [1.0, -2.0], "b": [3.0, 0.5]}, "size", "title")
    widths = [bar.get_width() for bars in figure.axes[0].containers for bar in bars]
    assert widths == [1.0, -2.0, 3.0, 0.5]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["first", "$second$"]
    assert len(png(figure)) > 1000 and "$second$" in svg(figure)


def test_offsets_are_drawn_with_the_rest(contents: Contents) -> None:
    one = contents.answers[0]
    axes = figures.offsets_figure(one, contents.titles).axes[0]
    names = [contents.titles.get(name, name) for name, _ in one.splits[0].contributions]
    assert [text.get_text() for text in axes.get_yticklabels()] == [*names, "all others"] and "6 (linear)" in names
    bars = axes.containers
    for split, drawn in zip(one.splits, bars, strict=True):
        assert sum(bar.get_width() for bar in drawn) == pytest.approx(split.offset, abs=1e-6)


def test_long_names_stay_in_their_places(contents: Contents) -> None:
    found = contents.neighbors
    assert isinstance(found, Neighborhoods)
    ((_, layer), *_), path = found.queries[0].layers, "backbone.stage4.block2.activation.relu"
    near = dataclasses.replace(layer[0], label="a class with a name that never ends")
    query = dataclasses.replace(found.queries[0], layers=((path, (near, *layer[1:])),))
    texts = _texts(figures.neighbors_figure(query, found))
    assert path in [text.replace("\n", "") for text in texts]
    assert max(len(line) for text in texts for line in text.splitlines()) <= 24
