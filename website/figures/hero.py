"""The picture of the README: the plane through three garments, cut exactly, and what each is matched against."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

import maxaffine as ma
from examples.real_networks.measuring import only
from maxaffine._data import load
from maxaffine._drawing import input_pixels, template_pixels
from maxaffine._models import build, train
from maxaffine._partition import PlanePartition
from maxaffine._templates import Templates

CHOSEN = (9, 2, 18)  # test images: a sneaker, a pair of trousers, a bag
EXTENT = (-3.4, 16.8, -4.3, 13.4)
WIDTH, HEIGHT = 12.8, 6.2
# One card for white and black pages. The colors (Okabe and Ito) are told apart with any common color blindness.
CARD, INK, FAINT = "#0d1420", "#f4f6fb", "#9fb0c8"
COLORS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cccccc", "#cc79a7", "#8c7ae6", "#b07d4f")
LABEL = {"color": INK, "fontsize": 11, "weight": "bold", "ha": "center", "va": "center"}
DARKEST, BRIGHTEST, JITTER = 0.38, 0.86, 0.09


def hero() -> Figure:
    """Train a small network on Fashion-MNIST and draw it.

    Returns:
        The figure.
    """
    data = load("fashion-mnist")
    model = build("mlp", data.input_shape, data.classes, seed=0, widths=(96, 96, 96))
    train(model, data.train.take(slice(0, 12000)), epochs=6, seed=0, progress=False)
    x = data.test.inputs[list(CHOSEN)]
    net = ma.capture(model, x)
    partition = ma.partition.plane(net, x, extent=EXTENT)
    result = net.templates(x, names=data.class_names)
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=CARD)
    _plane(figure.add_axes((0, 0, 0.5517, 1)), partition, x, data.class_names)
    _matched(figure, result, x)
    words = f"On the left {partition.regions:,} regions: on each, the network is one affine map."
    figure.text(0.7855, 0.062, words, color=FAINT, fontsize=9, ha="center", va="center")
    words = "On the right the maps at the three images: ⟨template, x⟩ + b is the logit."
    figure.text(0.7855, 0.03, words, color=FAINT, fontsize=9, ha="center", va="center")
    return figure


def _plane(ax: Axes, partition: PlanePartition, x: torch.Tensor, names: tuple[str, ...]) -> None:
    found = partition.divided_by_class()
    arrays, classes = found.to_numpy(), found.classes.numpy()
    rings = np.split(arrays["vertices"][arrays["cell_corners"]], arrays["cell_starts"][1:-1])
    # The longer the slopes within the plane, the brighter the cell; a little chance tells neighbors apart.
    rank = found.plane_map()[0].flatten(1).norm(dim=1).numpy().argsort().argsort() / found.regions
    chance = JITTER * np.random.default_rng(0).uniform(-1, 1, found.regions)
    shade = (DARKEST + (BRIGHTEST - DARKEST) * rank + chance)[:, None]
    base, card = np.array([to_rgb(color) for color in COLORS])[classes], np.array(to_rgb(CARD))
    colors = shade * base + (1 - shade) * card
    ax.add_collection(PolyCollection(rings, facecolors=colors, edgecolors="face", linewidths=0.2))
    inner = arrays["edge_operators"] >= 0
    lines = arrays["vertices"][arrays["edges"][inner]]
    ax.add_collection(LineCollection(list(lines), colors=CARD, linewidths=0.3, alpha=0.75))
    boundary = partition.decision_boundary().points.numpy()
    ax.add_collection(LineCollection(list(boundary), colors=INK, linewidths=2.4, capstyle="round"))
    at = partition.frame.coordinates(x.double())
    own = partition.classes[partition.locate(at)].tolist()
    areas, centers = found.areas.numpy(), found.centers.numpy()
    for number in set(classes.tolist()) - set(own):
        weights = np.where(classes == number, areas, 0)
        if weights.sum() > 0.02 * areas.sum():
            x0, y0 = (centers * weights[:, None]).sum(0) / weights.sum()
            ax.text(x0, y0, names[number], **LABEL)
    for place, image, number in zip(at.tolist(), x.numpy(), own, strict=True):
        picture = OffsetImage(input_pixels(image), zoom=2.2, interpolation="nearest")
        style = {"edgecolor": INK, "linewidth": 1.6, "facecolor": "black"}
        ax.add_artist(AnnotationBbox(picture, place, bboxprops=style, pad=0.1))
        ax.text(
            place[0], place[1] - 1.65, names[number], color=INK, fontsize=11, weight="bold", ha="center", va="center"
        )
    ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal")
    ax.axis("off")


def _matched(figure: Figure, result: Templates, x: torch.Tensor) -> None:
    """A row for each image: it, the templates of the two largest logits, and the sums."""
    left, size, across = 0.592, 0.108, 0.1395
    height, step = size * WIDTH / HEIGHT, 0.285
    for column, words in enumerate(("input x", "template of the winner", "and of the runner-up")):
        figure.text(
            left + column * across + size / 2, 0.962, words, color=FAINT, fontsize=9.5, ha="center", va="center"
        )
    for row in range(len(x)):
        bottom = 0.715 - row * step
        best = (result.inner + result.offsets)[row].topk(2).indices.tolist()
        templates = only(result.slopes)[row, best]
        scale = float(templates.abs().max())
        pictures = [input_pixels(x[row].numpy())]
        pictures += [template_pixels(template.numpy(), scale) for template in templates]
        for column, pixels in enumerate(pictures):
            ax = figure.add_axes((left + column * across, bottom, size, height))
            ax.imshow(pixels, interpolation="nearest")
            ax.axis("off")
        for column, place in enumerate(best, start=1):
            match, offset = float(result.inner[row, place]), float(result.offsets[row, place])
            sums = f"{match:.2f} {'-' if offset < 0 else '+'} {abs(offset):.2f} = {match + offset:.2f}"
            words = f"{result.names[place]}: {sums}".replace("-", "\N{MINUS SIGN}")
            middle = left + column * across + size / 2
            figure.text(middle, bottom - 0.022, words, color=INK, fontsize=8, ha="center", va="center")
