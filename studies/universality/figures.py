"""The pictures of the page: what is fitted, in one dimension, and the errors of the finished cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxaffine import MaxAffineSpline
from maxaffine.sklearn import MaxAffineRegressor
from studies.cells import Record

from .functions import FUNCTIONS
from .tables import errors

COLORS = {1: "#0072B2", 2: "#D55E00", 3: "#009E73", 5: "#CC79A7"}  # Okabe and Ito's


def draw(found: Sequence[Record], folder: Path) -> None:
    """Both pictures."""
    _draw_fits(folder / "universality-fits.png")
    _draw_errors(found, folder / "universality-rates.png")


def _draw_fits(path: Path) -> None:
    """A convex function and its five pieces; waves, the nearest convex spline, and a difference of two."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    convex, waves, parts = figure.subplots(1, 3)
    x = torch.linspace(-1, 1, 800, dtype=torch.float64)[:, None]
    y = FUNCTIONS["squared norm"](1, 0)(x)
    spline = MaxAffineSpline.from_samples(x, y, 5)
    _draw(convex, x, y, {"five pieces, one spline": spline(x)[:, 0].detach()})
    low = float(y.min()) - 0.3
    for slope, offset in zip(spline.slopes[0, :, 0].tolist(), spline.offsets[0].tolist(), strict=True):
        piece = slope * x + offset
        convex.plot(x[piece >= low], piece[piece >= low], color="0.8", lw=0.8, zorder=0)
    convex.set_ylim(low, None)
    y = FUNCTIONS["waves"](1, 0)(x)
    one, two = MaxAffineRegressor(12).fit(x, y), MaxAffineRegressor(6, 6).fit(x, y)
    fits = {"one spline of 12 pieces": one, "two of 6, composed": two}
    _draw(waves, x, y, {name: torch.tensor(fit.predict(x)) for name, fit in fits.items()})
    both = two.module_[0](x).detach()
    _draw(
        parts,
        x,
        both[:, 0],
        {"their difference": both[:, 0] - both[:, 1], "the second": both[:, 1]},
        "the first spline",
    )
    titles = ("A convex function", "Waves: nothing convex is near", "Two convex splines and their difference")
    for axes, title in zip((convex, waves, parts), titles, strict=True):
        axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)


def _draw(
    axes: Axes, x: torch.Tensor, y: torch.Tensor, fits: dict[str, torch.Tensor], name: str = "the function"
) -> None:
    axes.plot(x[:, 0], y, color="0.4", lw=2.5, label=name)
    for color, (label, values) in zip(("#D55E00", "#0072B2"), fits.items(), strict=False):
        axes.plot(x[:, 0], values, color=color, lw=1.3, label=label)
    axes.legend(fontsize=8)


def _draw_errors(found: Sequence[Record], path: Path) -> None:
    """The error by the number of pieces: of convex functions in one to five dimensions, and of waves."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    convex, waves = figure.subplots(1, 2)
    for features, color in COLORS.items():
        fitted = errors(found, "log-sum-exp", features, "fitted")
        if not fitted:
            continue
        pieces, means = np.array(list(fitted)), np.array([values.mean() for values in fitted.values()])
        convex.loglog(pieces, means, "o-", color=color, label=f"D = {features}")
        convex.loglog(pieces, means[-1] * (pieces / pieces[-1]) ** (-2 / features), ":", color=color)
    convex.set_title(
        "A smooth convex function, one spline\n(dotted: the rate of theory, R to the power -2/D)", fontsize=10
    )
    for features, color in COLORS.items():
        for way, style, name in (("one", "s--", "one spline"), ("two", "o-", "two, composed")):
            by_pieces = errors(found, "waves", features, way)
            if by_pieces:
                means = [values.mean() for values in by_pieces.values()]
                waves.loglog(list(by_pieces), means, style, color=color, label=f"{name}, D = {features}")
    waves.set_title("Waves, neither convex nor concave", fontsize=10)
    for axes in (convex, waves):
        axes.set_xlabel("affine pieces R")
        axes.set_ylabel("root mean square error / standard deviation")
        axes.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
