"""Figure and page of a partitioned plane."""

from __future__ import annotations

import base64
import json
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine import _report as report
from maxaffine._drawing import png
from maxaffine._partition import PlanePartition
from maxaffine._report.plane_page import plane_content
from tests.arrays import decoded
from tests.pages import check_page


def _partition(outputs: int = 3, task: str = "classes") -> PlanePartition:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs)).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():  # the decision boundary passes through the middle
        network[-1].bias -= network(x.mean(0, keepdim=True))[0]
    return ma.partition.plane(ma.capture(network, x, task=task), x)


def test_figure() -> None:
    found = _partition()
    figure = report.plane_figure(found, ["a", "b", "c"])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 3 and f"{found.regions} regions" in titles[0]
    assert png(figure).startswith(b"\x89PNG")
    drawn = [item for ax in figure.axes[:3] for item in ax.collections]
    assert len(drawn) >= 9  # cells, edges and decision boundary in each panel
    _partition(1).plot(coloring="class", boundary=False, anchors=False)


def _content(page: str) -> dict:
    match = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match.group(1))


def test_page_holds_what_the_network_says() -> None:
    found = _partition()
    page = report.plane_page(found, ["a", "b", "</script>"], title="A </script> plane")
    assert "A &lt;/script&gt; plane" in page
    check_page(page, [])
    assert page.count("</script>") == page.count("<script") == 2
    content = _content(page)
    cells = found.divided_by_class()
    groups = decoded(content["picture"]["groups"])
    assert len(content["cells"]) == len(groups) == cells.regions > found.regions == content["plane"]["regions"]
    codes = found.codes(found.locate(cells.centers).tolist())
    names = ["a", "b", "</script>"]
    for number, cell in enumerate(content["cells"]):
        own = found.at(cells.centers[[number]])[0]
        order = own.argsort(descending=True).tolist()
        assert content["names"][str(groups[number])] == names[order[0]]
        assert [name for name, _ in cell["outputs"]] == [names[unit] for unit in order]
        assert [value for _, value in cell["outputs"]] == pytest.approx(own[order].tolist(), rel=1e-2, abs=1e-3)
        ((name, part),) = codes.items()
        assert cell["codes"] == [int(part.unpack()[number].sum())] and content["coded"] == [[f"{name} (relu)", 8]]
    assert sum(cell["area"] for cell in content["cells"]) == pytest.approx(1, abs=0.01)
    drawn = decoded(content["picture"]["boundary"])
    assert np.hypot(*(drawn[:, 1] - drawn[:, 0]).T).sum() == pytest.approx(found.decision_boundary().length)
    assert found.frame.anchors is not None
    assert content["start"] == int(cells.locate(found.frame.anchors[:1])[0])
    assert content["plane"]["anchors"] == found.frame.anchors.tolist() and len(content["inputs"]) == 3


def test_templates_of_the_cells_are_those_of_autograd() -> None:
    found = _partition()
    templates = _content(report.plane_page(found))["templates"]
    assert (templates["height"], templates["width"], templates["square"], templates["of"]) == (4, 4, 1, "the answer")
    cells = found.divided_by_class()
    values = np.frombuffer(base64.b64decode(templates["data"]), np.uint8).reshape(cells.regions, 16)
    for number in range(0, cells.regions, 5):
        (x,) = found.frame.points(cells.centers[[number]])
        x.requires_grad_()
        (slopes,) = torch.autograd.grad(found.graph.run([x])[0][0].max(), x)
        end = templates["ends"][number]
        assert end == pytest.approx(float(slopes.abs().max()), rel=0.01)
        shown = (values[number].astype(float) - 128) / 127 * end
        assert shown == pytest.approx(slopes.flatten().numpy(), abs=0.015 * end)


def test_cells_of_two_classes_are_cut_at_the_boundary() -> None:
    found = _partition()
    picture = plane_content(found, str, 0)["data"]["picture"]
    points, starts, corners = (decoded(picture[name]) for name in ("points", "starts", "corners"))
    area = 0.0
    for cell, group in enumerate(decoded(picture["groups"]).tolist()):
        ring = points[corners[starts[cell] : starts[cell + 1]]]
        area += abs(float(ring[:, 0] @ np.roll(ring[:, 1], -1) - ring[:, 1] @ np.roll(ring[:, 0], -1))) / 2
        at = found.at(torch.from_numpy(ring))
        assert (at.max(1).values - at[:, group] <= 1e-9).all(), "one class all over the cell"
    assert area == pytest.approx(float(found.areas.sum())) and not found.decided.all()
    # The lines between cells are the network's; the boundary is drawn in bold besides.
    inner = found.cells.operator >= 0
    edges = points[decoded(picture["ends"])]
    assert np.hypot(*(edges[:, 1] - edges[:, 0]).T).sum() == pytest.approx(
        np.hypot(*np.diff(found.cells.points[found.cells.ends[inner]], axis=1)[:, 0].T).sum()
    )


def test_outputs_that_are_values_have_no_classes() -> None:
    logit = plane_content(_partition(1), str, 10**6)
    assert (
        logit["data"]["templates"]["of"] == "the output" and logit["data"]["cells"][0]["outputs"][0][0] == "the output"
    )
    found = _partition(2, "values")
    content = plane_content(found, "value {}".format, 10**6)
    assert content["colored"] == "value" and content["several"] and content["data"]["templates"]["of"] == "value 0"
    contours, picture = found.contours(), content["data"]["picture"]
    assert len(decoded(picture["boundary"])) == sum(map(len, contours.lines)) and not content["surface"]
    assert np.array_equal(decoded(picture["groups"]), contours.numbers)
    assert len(content["data"]["names"]) == len(contours.ranges)
    assert [name for name, _ in content["data"]["cells"][0]["outputs"]] == ["value 0", "value 1"]


def test_pictures_as_outputs_are_colored_by_their_slopes() -> None:
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4), nn.Unflatten(1, (2, 2))).double()
    x = torch.randn(3, 16, dtype=torch.float64)
    found = ma.partition.plane(ma.capture(network, x), x)
    content = plane_content(found, str, 10**6)
    assert content["data"]["templates"] is None and content["colored"] == "slope" and not content["boundary"]
    groups, bands = decoded(content["data"]["picture"]["groups"]), content["data"]["plane"]["bands"]
    assert content["data"]["names"][0].startswith("slope ") and len(groups) == found.regions
    for group, norm in zip(groups.tolist(), found.slope_norms.tolist(), strict=True):
        assert bands[group][0] - 1e-9 <= norm <= bands[group][1] + 1e-9


def test_large_templates_are_averaged_over_squares() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3600, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(3, 1, 60, 60, dtype=torch.float64)
    found = ma.partition.plane(ma.capture(network, x), x)
    cells = found.divided_by_class()
    most = cells.regions * 31 * 31
    templates = plane_content(found, str, most)["data"]["templates"]
    assert (templates["height"], templates["width"], templates["square"]) == (30, 30, 2)
    values = np.frombuffer(base64.b64decode(templates["data"]), np.uint8).reshape(-1, 30, 30)
    slopes = torch.as_tensor(cells.affine_map([0], outputs=[int(cells.classes[0])]).slopes)[0, 0, 0].numpy()
    means = slopes.reshape(30, 2, 30, 2).mean((1, 3))
    shown = (values[0].astype(float) - 128) / 127 * np.abs(means).max()
    assert shown == pytest.approx(means, abs=0.01 * np.abs(means).max())
    assert plane_content(found, str, 100)["data"]["templates"] is None


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _partition()
    with pytest.raises(ma.BadInput, match="coloring: expected"):
        found.plot(coloring="size")
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_figure(found, ["a"])
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_page(found, class_names=["a"])
    monkeypatch.setattr(sys.modules["maxaffine._report.plane_page"], "MOST_CELLS", 1)
    with pytest.raises(ma.BadInput, match="too many"):
        report.plane_page(found)
