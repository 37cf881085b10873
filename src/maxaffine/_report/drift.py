"""The picture of a drift: how far the codes move at every step, and how far they are from the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maxaffine._codes import Drift
from maxaffine._report.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Named in the legend up to this many; the others are drawn without a name.
NAMED = 12


def drift_figure(drift: Drift) -> Figure:
    """Draw, operator by operator, the code distance from each moment to the next and to the last one.

    The operators run from dark at the input to bright at the output. The axes are logarithmic, so a distance of 0 is
    left out.

    Args:
        drift: What to draw.

    Returns:
        The figure.

    Raises:
        MaxAffineError: matplotlib is not installed.
    """  # noqa: DOC502
    require()
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    to_next, to_last = figure.subplots(1, 2, sharey=True)
    count = len(drift.operators)
    named = (
        {round(place * (count - 1) / max(1, NAMED - 1)) for place in range(NAMED)} if count > NAMED else range(count)
    )
    for place, (name, steps, lasting) in enumerate(
        zip(drift.operators, drift.steps.tolist(), drift.to_last.tolist(), strict=True)
    ):
        color = colormaps["viridis"](0.9 * place / max(1, count - 1))
        # An underscore in front would hide a name from the legend; an operator may begin with one.
        style = {"color": color, "marker": ".", "linewidth": 1.2, "label": f" {name}" if place in named else None}
        to_next.plot(range(1, drift.moments), _positive(steps), **style)
        to_last.plot(range(drift.moments - 1), _positive(lasting[:-1]), **style)
    for axes, title in ((to_next, "from the moment before"), (to_last, "to the last moment")):
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("moment")
        axes.grid(alpha=0.3)
    to_next.set_ylabel("share of units with another code")
    to_last.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _positive(distances: list[float]) -> list[float]:
    return [distance if distance > 0 else float("nan") for distance in distances]
