"""What the page is told equals what the library says and what the untouched modules give."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import maxaffine as ma
from tests.arrays import decoded
from tests.explore.conftest import TRAIN_LIMIT, Server, Trained

ANCHORS = ["test/0", "test/3", "test/7"]


def test_about(server: Server, trained: Trained) -> None:
    about = server.ask("about")
    assert about["data"] == "digits" and about["checkpoints"] == ["first", "last"] and about["kind"] == "picture"
    assert about["sizes"] == {"test": 359, "train": 1438} and about["classes"] == list("0123456789")
    assert [record["name"] for record in about["operators"]] == ["0", "1", "2", "3", "4", "5"]


def test_pages_of_inputs(server: Server, trained: Trained) -> None:
    sixes = (trained.data.test.labels == 6).nonzero().flatten().tolist()
    found = server.ask("images", {"part": "test", "label": 6, "start": 3, "count": 5})
    assert found["total"] == len(sixes)
    assert [item["image"] for item in found["images"]] == [f"test/{number}" for number in sixes[3:8]]
    assert {item["label"] for item in found["images"]} == {6}
    assert len(server.ask("images", {"part": "train", "label": "", "start": 0, "count": 10**6})["images"]) == 200


def test_a_thumbnail_is_the_picture(server: Server, trained: Trained) -> None:
    _, headers, content = server.raw("GET", f"/{server.token}/thumbnail?image=train/5")
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L"))
    assert headers["content-type"] == "image/png"
    assert np.array_equal(pixels, (trained.data.train.inputs[5, 0] * 255).round().byte().numpy())


@pytest.mark.parametrize("place", [0, 1])
def test_templates_equal_the_library_and_the_module(server: Server, trained: Trained, place: int) -> None:
    x = trained.data.test.inputs[4:5]
    module, net = trained.modules[place], trained.nets[place]
    found = server.ask("explain", {"image": "test/4", "checkpoint": place})
    with torch.no_grad():
        values, order = module(x)[0].sort(descending=True)
    assert [item["unit"] for item in found["outputs"]] == order.tolist()
    assert [item["value"] for item in found["outputs"]] == pytest.approx(values.tolist(), abs=1e-5)
    assert found["predicted"] == int(order[0]) and found["label"] == int(trained.data.test.labels[4])
    assert np.array_equal(decoded(found["input"]), x[0].numpy())
    expected = net.templates(x, top=2)
    for item in found["templates"]:
        assert np.array_equal(decoded(item["slopes"]), np.asarray(expected.template(item["unit"]))[0])
        assert item["inner"] + item["offset"] == pytest.approx(item["value"], abs=1e-4)
        gradient = torch.autograd.functional.jacobian(lambda inputs, unit=item["unit"]: module(inputs)[0, unit], x)[0]
        assert np.allclose(decoded(item["slopes"]), gradient, atol=1e-5)
    for part, (name, split) in zip(found["bias"], expected.contributions.items(), strict=True):
        assert part["operator"] == name and part["values"] == pytest.approx(
            split[0, [expected.place(unit) for unit in order[:2].tolist()]].tolist(), abs=1e-6
        )
    sums = np.sum([part["values"] for part in found["bias"]], axis=0)
    assert sums == pytest.approx([item["offset"] for item in found["templates"]], abs=1e-4)


def test_the_difference_is_what_made_it_win(server: Server) -> None:
    found = server.ask("explain", {"image": "test/9", "checkpoint": 1})
    first, second, against = *found["templates"], found["difference"]
    difference = decoded(first["slopes"]) - decoded(second["slopes"])
    assert np.allclose(decoded(against["slopes"]), difference, atol=1e-6)
    assert decoded(against["shares"]).sum() == pytest.approx(against["inner"], abs=1e-4)
    assert against["margin"] == pytest.approx(first["value"] - second["value"], abs=1e-4)


def _neighbors(server: Server, image: str, place: int) -> dict[str, Any]:
    for _ in range(600):
        found = server.ask("neighbors", {"image": image, "checkpoint": place})
        if "rows" in found:
            return found
        assert found["state"] == "running", found
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.parametrize("place", [1, 0])
def test_neighbors_share_the_modules_activations(server: Server, trained: Trained, place: int) -> None:
    module, inputs = trained.modules[place], trained.data.train.inputs
    searched = torch.linspace(0, len(inputs) - 1, TRAIN_LIMIT, dtype=torch.float64).round().long()
    x = trained.data.test.inputs[11:12]
    found = _neighbors(server, "test/11", place)
    assert (found["searched"], found["available"]) == (TRAIN_LIMIT, len(inputs))
    assert [row["operator"] for row in found["rows"]] == [None, "2", "4"]

    def patterns(until: int, batch: Tensor) -> Tensor:
        with torch.no_grad():
            return module[:until](batch) > 0  # type: ignore[index]

    for row in found["rows"]:
        if row["operator"] is None:
            distances = (inputs[searched] - x).flatten(1).norm(dim=1).double()
        else:
            until = int(row["operator"])
            distances = (patterns(until, inputs[searched]) != patterns(until, x)).double().mean(1)
        near = distances.sort(stable=True)
        assert [item["distance"] for item in row["near"]] == pytest.approx(near.values[:8].tolist(), abs=1e-6)
        for item in row["near"]:
            number = int(item["image"].split("/")[1])
            assert number in searched.tolist() and item["label"] == int(trained.data.train.labels[number])


def test_an_input_is_not_its_own_neighbor(server: Server) -> None:
    for row in _neighbors(server, "train/0", 1)["rows"]:
        assert "train/0" not in [item["image"] for item in row["near"]] and len(row["near"]) == 8


def test_an_upload_is_an_input_like_others(server: Server, trained: Trained) -> None:
    stream = io.BytesIO()
    np.save(stream, trained.data.test.inputs[20].numpy())
    card = server.ask("upload", {"name": "mine \u202e.npy"}, stream.getvalue())
    assert card["label"] is None and card["name"] == "mine .npy"
    found = server.ask("explain", {"image": card["image"], "checkpoint": 1})
    assert found["outputs"] == server.ask("explain", {"image": "test/20", "checkpoint": 1})["outputs"]
    assert card in server.ask("images", {"part": "own", "label": "", "start": 0, "count": 100})["images"]


def _divided(server: Server, place: int = 1, window: list[float] | None = None) -> dict[str, Any]:
    asked = {"images": ANCHORS, "checkpoint": place, "window": window}
    begun = server.ask("plane", body=json.dumps(asked).encode())
    for _ in range(1200):
        found = server.ask("plane", {"key": begun["key"]})
        if found["state"] != "running":
            assert found["state"] == "done", found
            return begun | found
        time.sleep(0.05)
    raise TimeoutError


@pytest.fixture(scope="module")
def divided(server: Server) -> dict[str, Any]:
    return _divided(server)


def _view(server: Server, found: dict[str, Any], window: list[float]) -> dict[str, Any]:
    sides = dict(zip(("left", "right", "bottom", "top"), window, strict=True))
    return server.ask("plane/view", {"key": found["key"], "width": 40, "height": 30, **sides})


def _plane(trained: Trained, found: dict[str, Any]) -> ma.partition.PlanePartition:
    anchors = trained.data.test.inputs[[0, 3, 7]]
    return ma.partition.plane(trained.nets[1], anchors, extent=found["window"], progress=False)


def test_a_plane_has_the_librarys_regions(server: Server, trained: Trained, divided: dict[str, Any]) -> None:
    expected = _plane(trained, divided)
    by_class = expected.divided_by_class()
    assert (divided["regions"], divided["cells"]) == (expected.regions, by_class.regions)
    assert divided["operators"] == ["2", "4"]
    assert expected.frame.anchors is not None
    assert np.allclose(divided["anchors"], expected.frame.anchors)
    view = _view(server, divided, divided["window"])
    assert view["kind"] == "cells" and view["seen"] == by_class.regions
    assert np.allclose(decoded(view["points"]), by_class.vertices)
    assert np.array_equal(decoded(view["groups"]), by_class.classes)
    boundary = decoded(view["boundary"])
    assert np.hypot(*(boundary[:, 1] - boundary[:, 0]).T).sum() == pytest.approx(expected.decision_boundary().length)
    areas = {number: float(by_class.areas[by_class.classes == number].sum()) for number, _ in divided["shares"]}
    total = float(by_class.areas.sum())
    assert {number: share for number, share in divided["shares"]} == pytest.approx(
        {n: a / total for n, a in areas.items()}
    )


def test_a_view_holds_the_cells_in_it(server: Server, divided: dict[str, Any]) -> None:
    left, right, bottom, top = divided["window"]
    x, y = (left + right) / 2, (bottom + top) / 2
    whole, part = (_view(server, divided, window) for window in (divided["window"], [x, right, y, top]))
    assert 0 < part["seen"] < whole["seen"]
    corners = decoded(part["points"])[decoded(part["corners"])]
    starts = decoded(part["starts"])[:-1]
    high, low = np.maximum.reduceat(corners, starts), np.minimum.reduceat(corners, starts)
    assert (high >= [x, y]).all() and (low <= [right, top]).all()
    assert set(decoded(part["numbers"])) <= set(decoded(whole["numbers"]))


def test_a_cell_is_what_the_module_is_there(server: Server, trained: Trained, divided: dict[str, Any]) -> None:
    module = trained.modules[1].double()
    try:
        for cell in range(0, divided["cells"], max(1, divided["cells"] // 12)):
            found = server.ask("plane/cell", {"key": divided["key"], "cell": cell})
            x = torch.from_numpy(decoded(found["input"]).copy())[None]
            with torch.no_grad():
                values = module(x)[0]
            assert found["group"] == int(values.argmax())
            assert found["outputs"][0]["value"] == pytest.approx(float(values.max()), abs=1e-6)
            assert found["inner"] + found["offset"] == pytest.approx(float(values.max()), abs=1e-6)
            gradient = torch.autograd.functional.jacobian(lambda inputs: module(inputs)[0].max(), x)[0]
            assert np.allclose(decoded(found["template"]), gradient, atol=1e-6)
            for row in found["codes"]:
                with torch.no_grad():
                    active = int((module[: int(row["operator"])](x) > 0).sum())  # type: ignore[index]
                assert row["counts"] == [row["units"] - active, active]
    finally:
        module.float()


def test_a_cells_sides_are_boundaries_of_these_units(server: Server, trained: Trained, divided: dict[str, Any]) -> None:
    """At the middle of a side the unit's pre-activation is zero; on the decision boundary two outputs are equal."""
    module, expected = trained.modules[1].double(), _plane(trained, divided)
    seen = set()
    try:
        for cell in range(0, divided["cells"], max(1, divided["cells"] // 40)):
            found = server.ask("plane/cell", {"key": divided["key"], "cell": cell})
            for side in found["sides"]:
                if side["operator"] is None:
                    assert side["across"] is None
                    continue
                middle = torch.tensor(side["ends"], dtype=torch.float64).mean(0)[None]
                with torch.no_grad():
                    x = expected.frame.points(middle)[0]
                    if side["unit"] is None:
                        high, next_ = module(x)[0].sort(descending=True).values[:2].tolist()
                        assert high == pytest.approx(next_, abs=1e-8)
                    else:
                        before = module[: int(side["operator"])](x)[0]  # type: ignore[index]
                        assert before[side["unit"][0]].item() == pytest.approx(0, abs=1e-8)
                seen.add(side["operator"])
                beyond = server.ask("plane/cell", {"key": divided["key"], "cell": side["across"]})
                assert side["group"] == beyond["group"] and cell in [other["across"] for other in beyond["sides"]]
    finally:
        module.float()
    assert seen == {"2", "4", "decision"}


def test_a_point_of_the_plane_can_be_explained(server: Server, divided: dict[str, Any]) -> None:
    cell = server.ask("plane/cell", {"key": divided["key"], "cell": 3})
    card = server.ask("plane/cell", {"key": divided["key"], "cell": 3}, body=b"")
    found = server.ask("explain", {"image": card["image"], "checkpoint": 1})
    assert found["predicted"] == cell["group"] and card["name"] == "center of cell 3"
    assert np.allclose(decoded(found["input"]), decoded(cell["input"]), atol=1e-6)


def test_a_smaller_window_and_another_moment(server: Server, divided: dict[str, Any]) -> None:
    left, right, bottom, top = divided["window"]
    smaller = _divided(server, 1, [left, (left + right) / 2, bottom, (bottom + top) / 2])
    assert smaller["regions"] < divided["regions"] and smaller["key"] != divided["key"]
    earlier = _divided(server, 0)
    assert earlier["anchors"] == divided["anchors"] and earlier["key"] != divided["key"]
