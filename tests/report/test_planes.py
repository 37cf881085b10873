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
from maxaffine._report.contours import contours_of
from maxaffine._report.plane_page import plane_content


def _partition(outputs: int = 3, task: str = "classes") -> PlanePartition:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs)).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():  # the decision boundary passes through the middle
        network[-1].bias -= network(x.mean(0, keepdim=True))[0]
    return ma.partition.plane(ma.capture(network, x, task=task), x)


def test_figure() -> None:
    found = _partition()
    figure = report.plane_figure(found, class_names=["a", "b", "c"])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 3 and f"{found.regions} regions" in titles[0]
    assert png(figure).startswith(b"\x89PNG")
    drawn = [item for ax in figure.axes[:3] for item in ax.collections]
    assert len(drawn) >= 9  # cells, edges and decision boundary in each panel
    report.plane_figure(_partition(1), ["class"], boundary=False, anchors=False)


def _content(page: str) -> dict:
    match = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match.group(1))


def test_page_holds_what_the_network_says() -> None:
    found = _partition()
    page = report.plane_page(found, ["a", "b", "</script>"], title="A </script> plane")
    assert "://" not in page and "A &lt;/script&gt; plane" in page
    assert page.count("</script>") == page.count("<script") == 2
    content = _content(page)
    assert len(content["cells"]) == found.regions == page.count('class="cell"')
    codes = found.codes()
    names = ["a", "b", "</script>"]
    for number, cell in enumerate(content["cells"]):
        own = found.at(found.centers[[number]])[0]
        order = own.argsort(descending=True).tolist()
        assert content["classes"][number] == names[order[0]]
        assert [name for name, _ in cell["outputs"]] == [names[unit] for unit in order]
        assert [value for _, value in cell["outputs"]] == pytest.approx(own[order].tolist(), rel=1e-2, abs=1e-3)
        ((name, part),) = codes.items()
        assert cell["codes"] == [int(part.unpack()[number].sum())] and content["coded"] == [[f"{name} (relu)", 8]]
    assert sum(cell["area"] for cell in content["cells"]) == pytest.approx(1, abs=0.01)
    assert page.count("<line ") == len(found.decision_boundary())
    assert found.frame.anchors is not None
    assert content["start"] == int(found.locate(found.frame.anchors[:1])[0])


def test_templates_of_the_cells_are_those_of_autograd() -> None:
    found = _partition()
    templates = _content(report.plane_page(found))["templates"]
    assert (templates["height"], templates["width"], templates["square"], templates["of"]) == (4, 4, 1, "the answer")
    values = np.frombuffer(base64.b64decode(templates["data"]), np.uint8).reshape(found.regions, 16)
    for number in range(0, found.regions, 5):
        (x,) = found.frame.points(found.centers[[number]])
        x.requires_grad_()
        (slopes,) = torch.autograd.grad(found.graph.run([x])[0][0].max(), x)
        end = templates["ends"][number]
        assert end == pytest.approx(float(slopes.abs().max()), rel=0.01)
        shown = (values[number].astype(float) - 128) / 127 * end
        assert shown == pytest.approx(slopes.flatten().numpy(), abs=0.015 * end)


def test_cells_of_two_classes_are_cut_at_the_boundary() -> None:
    found = _partition()
    content = plane_content(found, str, 0)
    undecided = (~found.decided).nonzero()[:, 0].tolist()
    assert undecided and [place for place, fill in enumerate(content["fills"]) if fill == "none"] == undecided
    colors = {name: color for color, name in content["key"]}
    assert set(fill for fill, _ in content["parts"]) <= set(colors.values())
    divided = found.divided_by_class()
    assert len(content["parts"]) == len(divided.areas) - (found.regions - len(undecided))


def test_outputs_that_are_values_have_no_classes() -> None:
    logit = plane_content(_partition(1), str, 10**6)
    assert (
        logit["data"]["templates"]["of"] == "the output" and logit["data"]["cells"][0]["outputs"][0][0] == "the output"
    )
    found = _partition(2, "values")
    content = plane_content(found, "value {}".format, 10**6)
    assert content["data"]["classes"] == [] and content["data"]["templates"]["of"] == "value 0"
    assert content["boundary"] == [] and len(content["levels"]) == sum(map(len, contours_of(found, 0).lines))
    assert [name for name, _ in content["data"]["cells"][0]["outputs"]] == ["value 0", "value 1"]


def test_pictures_as_outputs_are_colored_by_their_slopes() -> None:
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4), nn.Unflatten(1, (2, 2))).double()
    x = torch.randn(3, 16, dtype=torch.float64)
    content = plane_content(ma.partition.plane(ma.capture(network, x), x), str, 10**6)
    assert content["data"]["templates"] is None and content["data"]["classes"] == content["levels"] == []
    assert content["boundary"] == [] and content["key"][0][1].startswith("slope ")


def test_large_templates_are_averaged_over_squares() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3600, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(3, 1, 60, 60, dtype=torch.float64)
    found = ma.partition.plane(ma.capture(network, x), x)
    most = found.regions * 31 * 31
    templates = plane_content(found, str, most)["data"]["templates"]
    assert (templates["height"], templates["width"], templates["square"]) == (30, 30, 2)
    values = np.frombuffer(base64.b64decode(templates["data"]), np.uint8).reshape(-1, 30, 30)
    slopes = torch.as_tensor(found.affine_map([0], outputs=[int(found.classes[0])]).slopes)[0, 0, 0].numpy()
    means = slopes.reshape(30, 2, 30, 2).mean((1, 3))
    shown = (values[0].astype(float) - 128) / 127 * np.abs(means).max()
    assert shown == pytest.approx(means, abs=0.01 * np.abs(means).max())
    assert plane_content(found, str, 100)["data"]["templates"] is None


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _partition()
    with pytest.raises(ma.BadInput, match="colorings"):
        report.plane_figure(found, ["size"])
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_figure(found, class_names=["a"])
    with pytest.raises(ma.BadInput, match="class_names"):
        report.plane_page(found, class_names=["a"])
    monkeypatch.setattr(sys.modules["maxaffine._report.plane_page"], "MOST_CELLS", 1)
    with pytest.raises(ma.BadInput, match="too many"):
        report.plane_page(found)
