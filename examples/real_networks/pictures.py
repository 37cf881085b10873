"""Figures laid out in whole pixels, so that no value of a template is lost to resampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from torch import Tensor

DPI = 100
SIGNED, UNSIGNED = "RdBu_r", "magma"
INNER, OFFSET = "#1b9e77", "#7570b3"
# Fewer colors than 256 keep the files of noisy templates small, and the eye sees no difference.
COLORS = 25
# A few pixels carry very steep slopes; the colors end where the other 99.5% lie.
SHOWN = 0.995


class Sheet:
    """A figure of panels placed by pixels from its top left corner.

    Args:
        width: Width in pixels.
        height: Height in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(self.figure)

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """Place axes.

        Args:
            left: Pixels from the left.
            top: Pixels from the top.
            width: Width in pixels.
            height: Height in pixels.

        Returns:
            The axes.
        """
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: int, top: int, words: str, **style: Any) -> None:
        """Write words.

        Args:
            left: Pixels from the left.
            top: Pixels from the top to the words' upper edge.
            words: The words.
            style: Options of matplotlib's text.
        """
        given = {"fontsize": 9, "va": "top", **style}
        self.figure.text(left / self.width, 1 - top / self.height, words, **given)

    def picture(self, left: int, top: int, side: int, picture: np.ndarray, title: str = "") -> Axes:
        """Draw a color picture.

        Args:
            left: Pixels from the left.
            top: Pixels from the top.
            side: Side in pixels, a multiple of the picture's.
            picture: (H, W, 3), bytes or numbers in [0, 1].
            title: Words above it.

        Returns:
            The axes, in the picture's own pixels.
        """
        return self._image(left, top, side, picture, title)

    def signed(self, left: int, top: int, side: int, values: Tensor, title: str = "", shown: float = SHOWN) -> None:
        """Draw signed values in colors symmetric about zero, their scale below.

        Args:
            left: Pixels from the left.
            top: Pixels from the top.
            side: Side in pixels.
            values: (H, W).
            title: Words above it.
            shown: Share of the values within the colors.
        """
        end = float(values.abs().flatten().quantile(shown)) or 1.0
        self._image(left, top, side, values.numpy(), title, cmap=_colors(SIGNED), vmin=-end, vmax=end)
        self._scale(left, top + side, side, SIGNED, [-end, 0, end])

    def magnitude(self, left: int, top: int, side: int, values: Tensor, title: str = "") -> None:
        """Draw magnitudes, their scale below.

        Args:
            left: Pixels from the left.
            top: Pixels from the top.
            side: Side in pixels.
            values: (H, W), not negative.
            title: Words above it.
        """
        end = float(values.flatten().quantile(SHOWN)) or 1.0
        self._image(left, top, side, values.numpy(), title, cmap=_colors(UNSIGNED), vmin=0, vmax=end)
        self._scale(left, top + side, side, UNSIGNED, [0, end])

    def logits(self, left: int, top: int, width: int, height: int, splits: Sequence[tuple[str, float, float]]) -> None:
        """Draw logits as bars of <A, x> and b, one class below the other, and their sums.

        Args:
            left: Pixels from the left to the bars, right of the classes' names.
            top: Pixels from the top.
            width: Width in pixels, without names and sums.
            height: Height in pixels.
            splits: Name, <A, x> and b of each class.
        """
        axes = self.axes(left, top, width, height)
        for place, (_, inner, offset) in enumerate(splits):
            axes.barh(place - 0.17, inner, 0.3, color=INNER)
            axes.barh(place + 0.17, offset, 0.3, color=OFFSET)
            axes.plot([inner + offset] * 2, [place - 0.38, place + 0.38], color="black", linewidth=1.5)
            words = written_sum(inner, offset, newline=True)
            self.text(left + width + 10, top + round(height * (place + 0.5) / len(splits)), words, va="center")
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.set_yticks(range(len(splits)), [name for name, *_ in splits])
        axes.set_ylim(len(splits) - 0.5, -0.5)
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        for place, (words, color) in enumerate([("⟨A, x⟩", INNER), ("+ b", OFFSET), ("= logit", "black")]):
            self.text(left + 48 * place, top - 6, words, color=color, va="bottom")

    def save(self, file: Path) -> Path:
        """Write the figure.

        Args:
            file: The PNG file.

        Returns:
            The file.
        """
        self.figure.savefig(file, dpi=DPI, pil_kwargs={"optimize": True})
        return file

    def _image(self, left: int, top: int, side: int, values: np.ndarray, title: str, **colors: Any) -> Axes:
        axes = self.axes(left, top, side, side)
        axes.imshow(values, interpolation="nearest", **colors)
        axes.set_axis_off()
        if title:
            self.text(left, top - 6, title, va="bottom")
        return axes

    def _scale(self, left: int, top: int, width: int, colors: str, ticks: list[float]) -> None:
        axes = self.axes(left, top + 6, width, 8)
        axes.imshow(np.linspace(0, 1, width)[None], cmap=_colors(colors), aspect="auto")
        axes.set_axis_off()
        places = {0: "left", len(ticks) - 1: "right"}
        for place, tick in enumerate(ticks):
            at = left + round(width * place / (len(ticks) - 1))
            self.text(at, top + 17, f"{tick:.2g}".replace("-", "−"), fontsize=8, ha=places.get(place, "center"))


def written_sum(inner: float, offset: float, newline: bool = False) -> str:
    """<A, x> + b = their sum, in figures.

    Args:
        inner: <A, x>.
        offset: b.
        newline: Whether the sum stands on a line of its own.

    Returns:
        The words, as ``1.50 − 0.25 = 1.25``.
    """
    end = "\n" if newline else " "
    joined = f"{inner:.2f} {'-' if offset < 0 else '+'} {abs(offset):.2f}"
    return f"{joined}{end}= {inner + offset:.2f}".replace("-", "−")


def _colors(name: str) -> Colormap:
    return matplotlib.colormaps[name].resampled(COLORS)
