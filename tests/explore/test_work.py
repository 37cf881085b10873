"""Work in the background, views of large planes, subjects that are refused, and inputs that are no pictures."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._data import DataSet, Split
from maxaffine._explore import Explorer, planes
from maxaffine._explore.jobs import Desk, Job
from maxaffine._report import Choices, Subject, find_subject
from maxaffine._report import drawn_plane as viewing
from maxaffine.errors import BadInput
from tests.arrays import decoded
from tests.explore.conftest import Trained


def _wait(found: dict, explorer: Explorer) -> dict:
    job = explorer.planes._desk.find(found["key"])
    assert job is not None and job.wait(60.0)
    return explorer.planes.state(found["key"])


@pytest.fixture(scope="module")
def explorer(trained: Trained) -> Explorer:
    return Explorer(trained.moments, 50)


IMAGES = ["test/0", "test/3", "test/7"]


def test_closing_says_whether_the_work_has_ended() -> None:
    desk: Desk[bool] = Desk(2)
    stuck = threading.Event()
    job = desk.ask("deaf", lambda tell: stuck.wait())
    assert not desk.close() and not desk.close(0.01) and job.state == "running"
    stuck.set()
    assert desk.close(10.0)


def test_too_many_regions_end_the_work_with_a_way_on(trained: Trained) -> None:
    found = Explorer(trained.moments, 50, most_cells=5)
    state = _wait(found.divide(IMAGES, 1, None), found)
    assert state["state"] == "failed" and "more than 5 regions" in state["words"] and "smaller part" in state["words"]
    assert state["share"] < 1


def test_many_outputs_leave_room_for_fewer_regions(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "MOST_OUTPUTS", 5 * 10)
    found = Explorer(trained.moments, 50)
    state = _wait(found.divide(IMAGES, 1, None), found)
    assert state["state"] == "failed" and "more than 5 regions" in state["words"]


def test_many_regions_are_looked_at_from_the_middle(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "FEW_UNITS", 0)
    net, anchors = trained.nets[1], trained.data.test.inputs[[0, 3, 7]]
    for most in (10_000, 20):
        found = Explorer(trained.moments, 50, most_cells=most)
        begun = found.divide(IMAGES, 1, None)
        state = _wait(begun, found)
        assert state["state"] == "done"
        expected = ma.partition.plane(net, anchors, extent=state["window"], progress=False)
        assert state["regions"] == expected.regions
        width, whole = (window[1] - window[0] for window in (state["window"], begun["window"]))
        if most == 20:
            assert state["cells"] <= 20 and 0 < width < whole
            assert (
                f"1/{round(whole / width)} of its sides" in state["note"]
                and "more regions than the 20" in state["note"]
            )
        else:
            assert state["note"] == "" and tuple(state["window"]) == tuple(begun["window"])


def test_a_plane_can_be_cancelled_and_begun_again(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(place, anchors, window, tell):
        begun.set()
        go_on.wait(30.0)
        tell(0.5, "half")
        raise AssertionError("it went on")

    with monkeypatch.context() as patched:
        patched.setattr(explorer.planes, "_divide", slow)
        found = explorer.divide(IMAGES, 0, None)
        assert begun.wait(30.0) and found["state"] == "running"
        explorer.planes.cancel(found["key"])
        go_on.set()
        assert _wait(found, explorer)["state"] == "cancelled"
    assert _wait(explorer.divide(IMAGES, 0, None), explorer)["state"] == "done"


def test_a_plane_that_is_cancelled_keeps_the_middle_that_is_done(
    trained: Trained, explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "FEW_UNITS", 0)
    exactly = explorer.planes._exactly

    def cancelled_later(place, anchors, window, tell):
        if window[1] - window[0] > 0.05 * (begun["window"][1] - begun["window"][0]):
            explorer.planes.cancel(begun["key"])
        return exactly(place, anchors, window, tell)

    go_on = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(explorer.planes, "_exactly", lambda *given: go_on.wait(30.0) and cancelled_later(*given))
        begun = explorer.divide(IMAGES, 0, (-1.0, 3.0, -1.0, 3.0))
        go_on.set()
        state = _wait(begun, explorer)
    assert state["state"] == "cancelled" and "not divided to the end" in state["note"] and "1/64" in state["note"]
    net, anchors = trained.nets[0], trained.data.test.inputs[[0, 3, 7]]
    assert state["regions"] == ma.partition.plane(net, anchors, extent=state["window"], progress=False).regions
    assert explorer.planes.cell(begun["key"], 0)["cell"] == 0
    again = _wait(explorer.divide(IMAGES, 0, (-1.0, 3.0, -1.0, 3.0)), explorer)
    assert again["state"] == "done" and again["note"] == ""


def test_progress_is_told(explorer: Explorer) -> None:
    seen = []
    anchors = [explorer.shelf.pick(image) for image in IMAGES]
    window = (-1.0, 4.0, -1.0, 4.0)
    explorer.planes._divide(1, anchors, window, lambda share, words: seen.append((share, words)))
    shares = [share for share, _ in seen]
    assert len(seen) > 3 and shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    assert any("cells so far" in words for _, words in seen)


def test_a_new_job_ends_the_others() -> None:
    desk: Desk[int] = Desk(keep=2)
    ended = threading.Event()

    def forever(tell):
        try:
            while True:
                tell(0.1, "on and on")
                time.sleep(0.005)
        finally:
            ended.set()

    first = desk.ask("a", forever)
    second = desk.ask("b", lambda tell: 7)
    assert ended.wait(30.0) and first.wait(30.0) and first.state == "cancelled"
    assert second.wait(30.0) and (second.state, second.result) == ("done", 7)
    assert desk.ask("b", lambda tell: 8) is second
    desk.ask("c", lambda tell: 9)
    assert desk.find("a") is None and desk.find("b") is second


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_inside_is_told_and_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(tell):
        raise ZeroDivisionError

    job: Job[int] = Job(broken)
    assert job.wait(30.0) and job.state == "failed" and "an error inside maxaffine" in job.words


def test_pixels_show_the_class_that_the_module_gives(
    trained: Trained, explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explorer.divide(IMAGES, 1, None)
    assert _wait(found, explorer)["state"] == "done"
    monkeypatch.setattr(viewing, "MOST_DRAWN", 10)
    window, width, height = found["window"], 24, 18
    view = explorer.planes.view(found["key"], window, width, height)
    assert view["kind"] == "pixels"
    left, right, bottom, top = window
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top - (np.arange(height) + 0.5) * (top - bottom) / height
    points = torch.tensor([[a, b] for b in y for a in x])
    plane = explorer.planes._done(found["key"]).cells
    module = trained.modules[1].double()
    with torch.no_grad():
        expected = module(plane.frame.points(points)[0]).argmax(1).reshape(height, width)
    module.float()
    assert np.array_equal(decoded(view["groups"]), expected)
    assert np.array_equal(decoded(view["numbers"]).ravel(), plane.locate(points))
    with pytest.raises(BadInput, match="pixels"):
        explorer.planes.view(found["key"], window, 5000, 5000)
    with pytest.raises(BadInput, match="area"):
        explorer.planes.view(found["key"], (1.0, 1.0, 0.0, 1.0), 20, 20)


def _rows(features: int = 6, classes: int = 2) -> DataSet:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, features, generator=generator)
    split = Split(inputs, torch.arange(40) % classes)
    return DataSet("rows", split, replace(split), tuple(f"kind {number}" for number in range(classes)))


def _now(model: nn.Module, data: DataSet) -> dict[str, Subject]:
    return {"now": find_subject(ma.capture(model.eval(), data.test.inputs[:2]), data, Choices(), "net")}


def test_tables_and_one_output() -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
    explorer = Explorer(_now(model, _rows()), 30)
    assert explorer.about()["kind"] == "bars" and explorer.about()["classes"] == ["kind 0", "kind 1"]
    found = explorer.explain("test/2", 0)
    with torch.no_grad():
        value = model(explorer.subject.data.test.inputs[2:3]).item()
    assert explorer.about()["classifies"] and explorer.about()["task"] == "classes"
    assert found["difference"] is None and found["predicted"] == int(value > 0)
    assert found["templates"][0]["inner"] + found["templates"][0]["offset"] == pytest.approx(value, abs=1e-5)
    plane = explorer.divide(["test/0", "test/1", "test/2"], 0, None)
    assert _wait(plane, explorer)["state"] == "done"
    cell = explorer.planes.cell(plane["key"], 0)
    assert cell["group"] == int(cell["outputs"][0]["value"] > 0) and decoded(cell["template"]).shape == (6,)
    assert explorer.shelf.thumbnail("test/0").startswith(b"\x89PNG")


def test_signals_and_pooling() -> None:
    generator = torch.Generator().manual_seed(1)
    split = Split(torch.randn(20, 2, 32, generator=generator), torch.arange(20) % 3)
    data = DataSet("signals", split, replace(split), ("a", "b", "c"))
    model = nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(), nn.Linear(28, 3))
    explorer = Explorer(_now(model, data), 20)
    assert explorer.about()["kind"] == "lines" and len(explorer.explain("test/1", 0)["outputs"]) == 3
    plane = explorer.divide(["test/0", "test/1", "test/2"], 0, None)
    assert _wait(plane, explorer)["state"] == "done"
    pooled = [row for row in explorer.planes.cell(plane["key"], 0)["codes"] if row["pieces"] == 4]
    assert sum(pooled[0]["counts"]) == pooled[0]["units"] == 28
    assert explorer.shelf.thumbnail("test/0").startswith(b"\x89PNG")


def test_a_network_without_kinks_has_no_neighbors_by_code() -> None:
    explorer = Explorer(_now(nn.Linear(6, 2), _rows()), 10)
    explorer.near.begin(0).wait(30.0)
    found = explorer.neighbors("test/3", 0)
    assert [row["operator"] for row in found["rows"]] == [None]


def test_operators_that_never_switch_are_left_out() -> None:
    dead = nn.Linear(8, 4)
    nn.init.constant_(dead.bias, -100.0)
    layers = [nn.Linear(6, 8), nn.ReLU(), dead, nn.ReLU(), nn.Linear(4, 3)]
    for model, shown, never in ((layers, ["1"], ["3"]), (layers[2:], [], ["1"])):
        features = 6 if model is layers else 8
        explorer = Explorer(_now(nn.Sequential(*model), _rows(features)), 10)
        explorer.near.begin(0).wait(30.0)
        found = explorer.neighbors("test/3", 0)
        assert [row["operator"] for row in found["rows"]] == [None, *shown] and found["left_out"] == never


def test_labels_in_another_order_are_said_first(trained: Trained) -> None:
    names = [str(digit) for digit in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    data, net = trained.data.ordered(names), trained.nets[1]
    explorer = Explorer({"now": find_subject(net, data, Choices())}, 5)
    about = explorer.about()
    assert explorer.order is not None
    assert about["order"].startswith("The labels seem to be in another order than the network's outputs: accuracy ")
    assert (
        "if output 0 means '0', output 2 means '2'" in about["order"] and "--class-names 0,1,2,3,4,5" in about["order"]
    )
    assert Explorer(trained.moments, 5).about()["order"] == ""
    right = find_subject(net, data.ordered(list("0123456789")), Choices())
    assert Explorer({"now": right}, 5).order is None
    # Weights from here have the labels of this data.
    assert Explorer({"now": find_subject(net, data, Choices(), fresh=True)}, 5).order is None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Unflatten(1, (1, 1, 2, 3)), "vectors or pictures"),
        (nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2, 1, 1))), "vectors or pictures"),
    ],
)
def test_what_cannot_be_shown_is_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Explorer(_now(model, _rows()))


def test_subjects_must_belong_together(trained: Trained) -> None:
    data = _rows()
    with pytest.raises(BadInput, match="takes inputs of shape"):
        find_subject(trained.nets[0], data, Choices())
    with pytest.raises(BadInput, match="none is given"):
        Explorer({})
    two = (ma.capture(nn.Linear(6, outputs), data.test.inputs[:2]) for outputs in (2, 3))
    with pytest.raises(BadInput, match="of one shape at every checkpoint"):
        Explorer({str(place): find_subject(net, data, Choices()) for place, net in enumerate(two)})


def test_a_hundred_own_inputs_are_kept(trained: Trained) -> None:
    shelf = Explorer(trained.moments, 5).shelf
    cards = [shelf.keep(torch.zeros(1, 8, 8), "x") for _ in range(103)]
    assert shelf.page("own", None, 0, 200)[1] == 100
    with pytest.raises(BadInput, match="there is no"):
        shelf.pick(cards[0].ref)


def test_values_have_no_classes_and_fields_their_coordinates() -> None:
    generator = torch.Generator().manual_seed(4)
    split = Split(torch.rand(12, 2, generator=generator), torch.zeros(12, dtype=torch.int64))
    data = DataSet("points", split, replace(split), ("unlabeled",))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    explorer = Explorer(_now(model, data), 12)
    about = explorer.about()
    assert (about["task"], about["classes"], about["classifies"]) == ("field", [], False)
    assert about["outputs"] == ["value 0", "value 1", "value 2"]
    found = explorer.explain("test/3", 0)
    assert found["predicted"] is None and found["difference"] is None
    assert [output["name"] for output in found["outputs"]] == about["outputs"]
    assert [template["name"] for template in found["templates"]] == about["outputs"][:2]
    plane = explorer.divide([], 0, None)
    done = _wait(plane, explorer)
    low, high = split.inputs.amin(0).tolist(), split.inputs.amax(0).tolist()
    assert plane["anchors"] == [] and plane["window"] == (low[0], high[0], low[1], high[1])
    view = explorer.planes.view(plane["key"], plane["window"], 30, 30)
    groups, cells = decoded(view["groups"]), explorer.planes._done(plane["key"]).cells
    values = model.double()(cells.frame.points(cells.centers)[0])[:, 0].detach().numpy()
    for group, value in zip(groups.tolist(), values.tolist(), strict=True):
        low, high = done["bands"][group]
        assert low - 1e-9 <= value <= high + 1e-9
    assert sum(share for _, share in done["shares"]) == pytest.approx(1)
    ends = torch.from_numpy(decoded(view["boundary"]).reshape(-1, 2).copy())
    at = model(cells.frame.points(ends)[0])[:, 0].detach().numpy()
    levels = np.array([band[1] for band in done["bands"][:-1]])
    assert len(levels) and np.abs(at[:, None] - levels).min(1).max() < 1e-9
    cell = explorer.planes.cell(plane["key"], 0)
    assert cell["unit"] == 0 and cell["group"] == int(groups[0])
    with pytest.raises(BadInput, match="a plane goes through three, got 0"):
        Explorer(_now(nn.Sequential(nn.Linear(2, 3)), replace(data, class_names=("a", "b", "c"))), 12).divide(
            [], 0, None
        )
