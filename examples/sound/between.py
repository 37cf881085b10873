"""What the pitch tracker hears between two tones, exactly: every piece of the line from one to the other."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma
from examples.sound.tones import PITCHES, frame, harmonics
from maxaffine.partition import LinePartition

AMPLITUDES = [1 / k for k in range(1, 9)]


def between(net: ma.SplineNetwork, model: nn.Module, low: float, high: float, file: Path) -> str:
    """Follow the line from one tone to another, check it against the module, and draw it.

    Args:
        net: The spline form before the sigmoid, in double precision.
        model: The network, untouched.
        low: Pitch of the first tone in Hz.
        high: Pitch of the second.
        file: Where the picture goes.

    Returns:
        What was found, in one sentence.
    """
    x0, x1 = (frame(harmonics(hz, AMPLITUDES))[0] for hz in (low, high))
    start = time.process_time()
    found = ma.partition.line(net, x0, x1, progress=False)
    seconds = time.process_time() - start
    with torch.no_grad():
        places = found.middles[:: max(1, found.pieces // 200)]
        worst = float((found.value(places).sigmoid() - model(found.points(places))).abs().max())
    draw(found, low, high, file)
    changes = found.decisions()
    heard = ", ".join(f"{PITCHES[unit]:.0f}" for unit in changes.classes.tolist())
    return (
        f"From {low:.0f} to {high:.0f} Hz the line crosses {found.pieces:,} pieces, found in {seconds:.0f} CPU seconds "
        f"in float64; at {len(places)} of their middles the sigmoid of the line and the untouched module differ by at "
        f"most {worst:.0e}. On the way it hears, in Hz: {heard}."
    )


def draw(found: LinePartition, low: float, high: float, file: Path) -> None:
    """Draw the logits that win somewhere on the line, where the answer changes, and breakpoints by operator.

    Args:
        found: The line.
        low: Pitch of the first tone in Hz.
        high: Pitch of the second.
        file: Where the picture goes.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    changes = found.decisions()
    values = torch.cat([found.starts, found.ends[-1:]])
    for unit in dict.fromkeys(changes.classes.tolist()):
        above.plot(found.breakpoints, values[:, unit], linewidth=1, label=f"{PITCHES[unit]:.0f} Hz")
    for t in changes.t.tolist():
        above.axvline(t, color="black", linestyle="--", linewidth=0.8)
    above.set_ylabel("logit")
    above.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    names = [name for name, count in found.crossings.per_operator.items() if count]
    for place, name in enumerate(names):
        of = found.crossings.operator == found.crossings.operators.index(name)
        t = found.breakpoints[found.crossings.breakpoint[of]]
        below.plot(t, [place] * len(t), "|", color="#0072B2", markersize=5, alpha=0.2)
    below.set_yticks(range(len(names)), names, fontsize=6)
    below.set_xlabel(f"t, from {low:.0f} Hz (0) to {high:.0f} Hz (1)")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
