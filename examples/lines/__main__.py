"""Draw the figures of docs/lines-and-regions.md: a line between two digits, and integrated gradients along it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from captum.attr import (  # pyright: ignore[reportMissingImports]  # an extra of its own
    IntegratedGradients,
)
from matplotlib.figure import Figure
from torch import Tensor, nn

import maxaffine as ma
from maxaffine.data import load
from maxaffine.models import build, train
from maxaffine.partition import LinePartition

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STEPS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SHOWN = (8, 64)


def main() -> None:
    """Train on the digits and draw both figures."""
    torch.set_num_threads(1)
    digits = load("digits")
    model = build("cnn", digits.input_shape, digits.classes, seed=0)
    train(model, digits.train, epochs=3, seed=0, progress=False)
    model.double()
    labels = digits.test.labels
    three, eight = (digits.test.inputs[labels == digit][:1].double() for digit in (3, 8))
    net = ma.capture(model, three)
    found = ma.partition.line(net, three, eight)
    print(found, found.verify(model), found.decisions(), sep="\n")
    draw_line(found, IMAGES / "line-between-digits.png")
    draw_gradients(net, model, eight, three, 8, IMAGES / "integrated-gradients.png")


def draw_line(found: LinePartition, path: Path) -> None:
    """The logits along the line, its breakpoints by operator, and where the decision changes."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    values = torch.cat([found.starts, found.ends[-1:]])
    changes = found.decisions()
    winners = changes.classes.tolist()
    for digit in range(values.shape[1]):
        if digit in winners:
            color = COLORS[sorted(set(winners)).index(digit)]
            above.plot(found.breakpoints, values[:, digit], color=color, label=f"digit {digit}")
        else:
            above.plot(found.breakpoints, values[:, digit], color="0.8", linewidth=0.8, zorder=0)
    for place, t in enumerate(changes.t.tolist()):
        above.axvline(t, color="black", linestyle="--", linewidth=1)
        words = f"{winners[place]} to {winners[place + 1]} at t = {t:.6f}"
        top, side = (t, float(values.max())), -1 if place == 0 else 1  # the first beside the lines of all others
        ways = {"ha": "right" if side < 0 else "left", "textcoords": "offset points"}
        above.annotate(words, top, (5 * side, -14 * max(0, place - 1)), fontsize=9, **ways)
    above.set_ylabel("logit")
    above.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    names = [name for name, count in found.crossings.per_operator.items() if count]
    for place, name in enumerate(names):
        number = found.crossings.operators.index(name)
        t = found.breakpoints[found.crossings.breakpoint[found.crossings.operator == number]]
        below.plot(t, [place] * len(t), "|", color=COLORS[place % len(COLORS)], markersize=9)
    below.set_yticks(range(len(names)), [f"operator {name}" for name in names])
    below.set_ylim(-0.6, len(names) - 0.4)
    below.set_xlabel("t, from a three (0) to an eight (1)")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def draw_gradients(net: ma.SplineNetwork, model: nn.Module, x: Tensor, baseline: Tensor, c: int, path: Path) -> None:
    """The exact attributions, captum's at few steps, and its error by the number of steps."""
    exact = ma.partition.integrated_gradients(net, x, baseline, outputs=[c])
    print(exact)
    attributions = exact.attributions
    if not isinstance(attributions, Tensor):
        raise TypeError("one input was expected")
    picture = attributions[0, 0]
    explain = IntegratedGradients(model).attribute
    found = {
        (rule, n): explain(x, baseline, target=c, n_steps=n, method=rule, internal_batch_size=256)[0, 0].detach()
        for rule in ("riemann_middle", "gausslegendre")
        for n in STEPS
        if rule == "riemann_middle" or n <= 512
    }
    figure = Figure(figsize=(9.5, 2.9), layout="compressed")
    axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 2.1])
    limit = float(picture.abs().max())
    shown = [("exact", picture), *((f"captum, {n} steps: error", found["gausslegendre", n] - picture) for n in SHOWN)]
    for place, (title, image) in enumerate(shown):
        size = limit if place == 0 else float(image.abs().max())
        mapped = axes[place].imshow(image, cmap="RdBu_r", vmin=-size, vmax=size)
        axes[place].set_title(title, fontsize=9)
        axes[place].set_xticks([])
        axes[place].set_yticks([])
        figure.colorbar(mapped, ax=axes[place], orientation="horizontal", shrink=0.85, format="%.1g")
    difference = float(exact.difference[0])
    for rule, color, mark in (("riemann_middle", COLORS[0], "o"), ("gausslegendre", COLORS[1], "s")):
        steps = [n for n in STEPS if (rule, n) in found]
        errors = [abs(float(found[rule, n].sum()) - difference) / abs(difference) for n in steps]
        axes[3].loglog(steps, errors, color=color, marker=mark, markersize=3, label=f"captum, {rule}")
    axes[3].axhline(max(exact.completeness, np.finfo(float).eps), color="black", label=f"exact, {exact.pieces} pieces")
    axes[3].set_xlabel("steps")
    axes[3].set_ylabel("relative completeness error")
    axes[3].legend(frameon=False, fontsize=8)
    axes[3].spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
