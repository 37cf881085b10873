"""The pictures of the page on the theory, each computed by the library and drawn at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import nn

import maxaffine as ma
from examples.real_networks.measuring import only
from maxaffine._data import load
from maxaffine._drawing import input_pixels, template_pixels
from maxaffine._models import build, train
from maxaffine._partition import PlanePartition

# Okabe and Ito: told apart with any common color blindness.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a800")
INK, FAINT = "#1b2230", "#8a94a6"
WIDE = (8.4, 3.1)


def max_affine() -> Figure:
    """A max-affine spline of one unit and five pieces: the pieces, their maximum, and the codes below.

    Returns:
        The figure.
    """
    slopes = torch.tensor([-1.6, -0.6, 0.1, 0.7, 2.0], dtype=torch.float64)
    offsets = torch.tensor([-1.2, 0.1, 0.45, 0.25, -1.6], dtype=torch.float64)
    spline = ma.MaxAffineSpline(slopes[None, :, None], offsets[None])
    x = torch.linspace(-2.2, 2.2, 1201, dtype=torch.float64)[:, None]
    value, codes = spline(x).detach()[:, 0], spline.codes(x)[:, 0]
    figure, ax = _panel()
    for piece, color in enumerate(COLORS[: len(slopes)]):
        ax.plot(x, slopes[piece] * x + offsets[piece], color=color, linewidth=1, linestyle=(0, (4, 2)))
        own = codes == piece
        ax.plot(x[own], value[own], color=color, linewidth=3.2, solid_capstyle="round")
        ax.plot(x[own], torch.full_like(x[own], -1.7), color=color, linewidth=7, solid_capstyle="butt")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        ax.text(float(x[own].mean()), -1.4, f"q = {piece}", color=INK, ha="center", va="center", fontsize=9, bbox=box)
    ax.set(xlim=(-2.2, 2.2), ylim=(-1.85, 2.8), xlabel="x", ylabel="S(x)")
    return figure


def affine_map() -> Figure:
    """A network from one number to one number, its pieces, and its affine map at one input.

    Returns:
        The figure.
    """
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1)).double()
    ends = torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    net = ma.capture(model, ends)
    line = ma.partition.line(net, ends[:1], ends[1:])
    kinks = ends[0, 0] + line.breakpoints * (ends[1, 0] - ends[0, 0])
    at = torch.tensor([[2.4]], dtype=torch.float64)
    amap = net.affine_map(at)
    figure, ax = _panel()
    for number, (low, high) in enumerate(pairwise(kinks.tolist())):
        ax.axvspan(low, high, color=FAINT, alpha=0.22 if number % 2 else 0.08, linewidth=0)
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]
    ax.plot(x, net(x).detach(), color=INK, linewidth=2.4)
    slope, offset = float(only(amap.slopes)), float(amap.offsets)
    ax.plot(x, slope * x + offset, color=COLORS[3], linewidth=1.4, linestyle=(0, (4, 2)))
    ax.plot(at, net(at).detach(), "o", color=COLORS[3])
    values = net(x).detach()
    margin = 0.25 * float(values.max() - values.min())
    ax.set(xlim=(-4, 4), ylim=(float(values.min()) - margin, float(values.max()) + margin), xlabel="x", ylabel="f(x)")
    sign = "+" if offset >= 0 else "\N{MINUS SIGN}"
    ax.set_title(f"{line.pieces} pieces; at the dot f(x) = {slope:.2f} x {sign} {abs(offset):.2f}", fontsize=10)
    return figure


def matched_filter() -> Figure:
    """A digit, the template of its class, and their product pixel by pixel.

    Returns:
        The figure.
    """
    data = load("digits")
    model = build("mlp", data.input_shape, data.classes, seed=0, widths=(64, 64))
    train(model, data.train, epochs=15, seed=0, progress=False)
    x = data.test.inputs[:1]
    result = ma.capture(model, x).templates(x)
    winner = int(result.values[0].argmax())
    template = only(result.slopes)[0, winner].numpy()
    shares = template * x[0].numpy()
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    signed = [template_pixels(array, float(np.abs(array).max())) for array in (template, shares)]
    offset = float(result.offsets[0, winner])
    titles = (
        "input x",
        f"template A[x] of class {winner}",
        f"product: adds up to {shares.sum():.2f}\nwith b = {offset:.2f} the logit {shares.sum() + offset:.2f}",
    )
    for ax, pixels, title in zip(figure.subplots(1, 3), (input_pixels(x[0].numpy()), *signed), titles, strict=True):
        ax.imshow(pixels, interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    return figure


def quantizer() -> Figure:
    """K-means and a power diagram: one unit, the same slopes, two choices of offsets.

    Returns:
        The figure.
    """
    generator = torch.Generator().manual_seed(5)
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    ring = 0.62 * torch.stack([angles.cos(), angles.sin()], 1)
    centers = torch.cat([torch.zeros(1, 2), ring + 0.13 * torch.randn(6, 2, generator=generator, dtype=torch.float64)])
    nearest = ma.MaxAffineSpline.from_centroids(centers)
    shift = 0.12 * torch.randn(1, 7, generator=generator, dtype=torch.float64)
    general = ma.MaxAffineSpline(nearest.slopes.detach(), nearest.offsets.detach() + shift)
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    titles = ("B = −|A|²/2: each point to its nearest slope", "any other B: a power diagram")
    for ax, spline, title in zip(figure.subplots(1, 2), (nearest, general), titles, strict=True):
        found = _square(spline, 1.0)
        codes = spline.codes(found.centers)[:, 0]
        _cells(ax, found, [COLORS[code % len(COLORS)] for code in codes.tolist()])
        radii = (centers.square().sum(1) + 2 * spline.offsets.detach()[0]).tolist()
        for (x, y), radius in zip(centers.tolist(), radii, strict=True):
            ax.plot(x, y, "o", color=INK, markersize=4)
            if radius > 1e-9:
                ax.add_patch(Circle((x, y), radius**0.5, fill=False, edgecolor=FAINT, linewidth=1))
        ax.set_title(title, fontsize=10)
    return figure


def layers() -> Figure:
    """How each layer of a network divides the regions of the one before.

    Returns:
        The figure.
    """
    torch.manual_seed(4)
    generator = torch.Generator().manual_seed(2)
    first = nn.Linear(2, 10)
    # Lines through the whole square, not through its middle only.
    nn.init.uniform_(first.bias, -1.2, 1.2, generator=generator)
    model = nn.Sequential(
        first, nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3)
    ).double()
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    for ax, (until, title) in zip(
        figure.subplots(1, 3), (("1", "the first layer"), ("3", "the second"), ("5", "the third")), strict=True
    ):
        found = _square(model, 2.0, until)
        mixed = np.random.default_rng(1).permutation(found.regions)
        _cells(ax, found, [COLORS[number % len(COLORS)] for number in mixed.tolist()], layered=True)
        ax.set_title(f"{title}: {found.regions} regions", fontsize=10)
    return figure


def soft() -> Figure:
    """Soft inference of a ReLU.

    Returns:
        The figure.
    """
    relu = ma.MaxAffineSpline(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2))
    x = torch.linspace(-5, 5, 401)[:, None]
    figure, ax = _panel()
    names = {0.0: "β = 0, the mean x / 2", 0.3: "β = 0.3", 0.5: "β = 1/2, SiLU", 0.8: "β = 0.8", 1.0: "β = 1, ReLU"}
    for (beta, name), color in zip(names.items(), (*COLORS[:4], INK), strict=True):
        ax.plot(x, relu.soft(x, beta).detach(), color=color, linewidth=2, label=name)
    ax.legend(frameon=False, fontsize=9)
    ax.set(xlim=(-5, 5), ylim=(-2.6, 5), xlabel="x", ylabel="y")
    return figure


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=WIDE, layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _square(model: nn.Module, side: float, until: str | None = None) -> PlanePartition:
    zero, axes = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    return ma.partition.plane(ma.capture(model, axes), origin=zero, basis=axes, extent=side, until=until)


def _cells(ax: Axes, found: PlanePartition, colors: list[str], layered: bool = False) -> None:
    """Fill the cells and draw their edges; where layered, those of the last operator in another color."""
    arrays = found.to_numpy()
    rings = np.split(arrays["vertices"][arrays["cell_corners"]], arrays["cell_starts"][1:-1])
    ax.add_collection(PolyCollection(rings, facecolors=colors, edgecolors="none", alpha=0.3))
    inner = arrays["edge_operators"] >= 0
    lines, operators = arrays["vertices"][arrays["edges"][inner]], arrays["edge_operators"][inner]
    last = (operators == operators.max()) & layered
    ax.add_collection(LineCollection(list(lines[~last]), colors=INK, linewidths=1.1))
    ax.add_collection(LineCollection(list(lines[last]), colors=COLORS[3], linewidths=1.4))
    low, high = arrays["vertices"].min(0), arrays["vertices"].max(0)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
