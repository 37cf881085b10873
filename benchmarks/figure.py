"""How the cost of exact planes grows: the figure of docs/partitions.md, from results.json.

Run ``python -m benchmarks.figure`` after ``python -m benchmarks growth``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PLOT = HERE.parent / "docs" / "images" / "plane-cost.png"
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#777777"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """CPU seconds over regions, and CPU microseconds per vertex over units, both with their floor.

    Args:
        rows: Of the table ``growth``.
        path: Image file to write.
    """
    rows = [row for row in rows if "failure" not in row]
    whole = sorted((row for row in rows if row["side"] >= 1), key=lambda row: row["regions"])
    fixed = sorted((row for row in rows if row["width"] == 256), key=lambda row: row["regions"])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for some, color, mark, name in (
        (whole, BLUE, "o", "more units: w = 16 to 512 (the last on side 5)"),
        (fixed, ORANGE, "s", "a larger square: w = 256, side 0.06 to 2"),
    ):
        regions = [row["regions"] for row in some]
        left.plot(regions, [row["cpu"] for row in some], color=color, marker=mark, label=name)
        left.plot(regions, [row["floor"] for row in some], color=color, linestyle=":", linewidth=1)
    left.plot([], [], color=GRAY, linestyle=":", label="one forward pass per final vertex")
    _finished(left, "regions", "CPU seconds")
    units = [row["units"] for row in whole]
    for key, style, name in (("cpu", "-o", "exact plane"), ("floor", ":", "one forward pass")):
        right.plot(units, [1e6 * row[key] / row["vertices"] for row in whole], style, color=BLUE, label=name)
    _finished(right, "units of the network", "CPU microseconds per vertex")
    figure.savefig(path, dpi=150)


def _finished(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw it."""
    draw(json.loads((HERE / "results.json").read_text())["growth"]["numbers"], PLOT)


if __name__ == "__main__":
    main()
