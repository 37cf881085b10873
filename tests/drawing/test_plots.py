"""Whatever draws itself takes the axes that it draws in, and the size of a new figure."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import maxaffine


def test_every_plot_takes_axes_and_a_size() -> None:
    plots = {}
    for module in pkgutil.walk_packages(maxaffine.__path__, "maxaffine."):
        if "__main__" not in module.name:
            for found in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(found) and found.__module__.startswith("maxaffine") and "plot" in vars(found):
                    plots[found.__qualname__] = inspect.signature(vars(found)["plot"]).parameters
    assert len(plots) >= 16 and {"PlanePartition", "Templates", "Drift"} <= set(plots)
    lacking = {name for name, parameters in plots.items() if not {"ax", "size"} <= set(parameters)}
    assert lacking == set()
    # What is drawn in colors or lines of its own choice lets the user choose.
    assert {name for name, parameters in plots.items() if "cmap" in parameters} >= {
        "AffineMap",
        "LinePartition",
        "Regions",
    }
