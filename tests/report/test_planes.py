"""Figure and page of a partitioned plane."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine import report
from maxaffine.drawing import png
from maxaffine.partition import PlanePartition


def _partition(outputs: int = 3) -> PlanePartition:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs)).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    return ma.partition.plane(ma.capture(network, x), x)


def test_figure() -> None:
    found = _partition()
    figure = report.plane_figure(found, class_names=["a", "b", "c"])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 3 and f"{found.regions} regions" in titles[0]
    assert png(figure).startswith(b"\x89PNG")
    drawn = [item for ax in figure.axes[:3] for item in ax.collections]
    assert len(drawn) >= 9  # cells, edges and decision boundary in each panel
    report.plane_figure(_partition(1), ["class"], boundary=False, anchors=False)


def test_page_holds_what_the_network_says() -> None:
    found = _partition()
    page = report.plane_page(found, ["a", "b", "c"], title="A </script> plane")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("</script>") == 1
    match = re.search(r"const it = (.*);\n", page)
    assert match is not None
    content = json.loads(match.group(1))
    assert len(content["cells"]) == found.regions
    codes = found.codes()
    for number, cell in enumerate(content["cells"]):
        assert cell["class"] == int(found.classes[number])
        assert cell["outputs"] == pytest.approx(found.at(found.centres[[number]])[0].tolist(), rel=1e-3, abs=1e-3)
        ((name, above, total),) = cell["codes"]
        assert above == int(codes[name].unpack()[number].sum()) and total == 8
    assert content["templates"]["height"] == content["templates"]["width"] == 4
    assert len(content["boundary"]) == len(found.decision_boundary())


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _partition()
    with pytest.raises(ma.BadInput, match="colourings"):
        report.plane_figure(found, ["size"])
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_figure(found, class_names=["a"])
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_page(found, class_names=["a"])
    monkeypatch.setattr(sys.modules["maxaffine.report.plane_page"], "MOST_CELLS", 1)
    with pytest.raises(ma.BadInput, match="too many"):
        report.plane_page(found)
