"""The picture: how the distortion falls, what the codebooks hold, and images put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from examples.vector_quantization.experiment import GRADIENT, KMEANS, SIDE, Kind, Result
from examples.vector_quantization.layer import VectorQuantizer
from examples.vector_quantization.patches import cut, joined

# Okabe and Ito's colors, told apart by color-blind readers too.
COLORS = ("#0072B2", "#D55E00")


def draw(results: Sequence[tuple[Kind, Sequence[Result]]], images: Tensor, path: Path) -> None:
    """Write the picture.

    Args:
        results: By kind, a result for every seed; the first seed's layers are shown.
        images: Some images (N, H, W), sides divisible by that of a patch.
        path: The PNG file.
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.05))  # pyright: ignore[reportGeneralTypeIssues]
    curves, *books = top.subplots(1, 3)
    _curves(curves, results)
    first = results[0][1][0]
    for axes, method in zip(books, (GRADIENT, KMEANS), strict=True):
        axes.imshow(_codebook(first.layers[method]).numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"the 64 centroids by {method}", fontsize=9)
        axes.set_axis_off()
    rows = [("original", images)]
    rows += [(f"{kind.name.split(' (')[1][:-1]} a patch", _rebuilt(found[0], images)) for kind, found in results]
    grid = bottom.subplots(len(rows), len(images), squeeze=False)
    for line, (name, shown) in zip(grid, rows, strict=True):
        for axes, image in zip(line, shown, strict=True):
            axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    # Without the version of matplotlib in the file, equal figures are equal files.
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _curves(axes: Axes, results: Sequence[tuple[Kind, Sequence[Result]]]) -> None:
    for color, (kind, found) in zip(COLORS, results, strict=True):
        label = kind.name.split(" (")[0].split(",")[0]
        for number, each in enumerate(found):
            axes.plot(each.history, color=color, lw=1.2, label=f"{label}: {GRADIENT}" if number == 0 else None)
        level = sum(each.distortion[KMEANS][1] for each in found) / len(found)
        axes.axhline(level, color=color, ls="--", lw=1, label=f"{label}: {KMEANS} (mean)")
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared distance per test patch")
    axes.legend(fontsize=7)


def _codebook(layer: VectorQuantizer) -> Tensor:
    """The centroids from dark to bright, eight a row, a white line between them."""
    centroids = layer.spline().slopes.detach()[0]
    patches = centroids[centroids.sum(1).argsort()].view(-1, SIDE, SIDE)
    framed = torch.nn.functional.pad(patches, (0, 1, 0, 1), value=1.0)
    return joined(framed.flatten(1), 8 * (SIDE + 1), 8 * (SIDE + 1))


def _rebuilt(result: Result, images: Tensor) -> Tensor:
    layer = result.layers[GRADIENT]
    with torch.no_grad():
        return torch.stack([joined(layer(cut(image, SIDE)).values, *image.shape) for image in images])
