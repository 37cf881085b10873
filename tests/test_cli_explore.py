"""``maxaffine explore`` from the words of the command line to the network that is asked."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socket
from pathlib import Path

import pytest
import torch

from maxaffine import _data as data
from maxaffine import _explore as explore
from maxaffine import _models as models
from maxaffine._cli import main
from tests.explore.conftest import start


def _run(*words: object) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["explore", *(str(word) for word in words)])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[explore.Explorer]:
    """The explorers that would have been served."""
    kept: list[explore.Explorer] = []

    def serve(explorer, port, ready) -> None:
        kept.append(explorer)
        ready(f"http://127.0.0.1:{port or 8000}/word/")
        explorer.close()

    monkeypatch.setattr(explore, "serve", serve)
    return kept


def test_a_network_of_ours_is_trained_and_its_moments_are_kept(served: list[explore.Explorer]) -> None:
    code, printed, _ = _run("mlp", "digits", "--epochs", 4, "--train-limit", 60)
    assert code == 0 and "explorer: http://127.0.0.1:8000/word/" in printed and "Ctrl-C" in printed
    (explorer,) = served
    names = explorer.names
    assert names[:4] == ("before training", "epoch 1", "epoch 2", "epoch 3") and names[4].startswith("best (epoch")
    labels = explorer.subject.data.test.labels[:200]
    right = []
    for subject in explorer.subjects:
        outputs = subject.net(explorer.subject.data.test.inputs[:200])
        right.append(int((outputs.argmax(1) == labels).sum()))
    assert right[-1] > 160 > right[0]


def test_weights_at_several_moments(served: list[explore.Explorer], tmp_path: Path) -> None:
    digits = data.load("digits")
    model = models.build("mlp", digits.input_shape, digits.classes, seed=0)
    for epoch in (1, 2, 10):
        torch.nn.init.constant_(model[-1].bias, float(epoch))  # type: ignore[index, arg-type]
        models.save_weights(model, tmp_path / f"epoch-{epoch:03d}.safetensors")
    (tmp_path / "notes.txt").write_text("none of them")
    code, printed, complaints = _run("mlp", "--checkpoints", tmp_path, "--json", "--train-limit", 20, "--port", 9)
    assert code == 0, complaints
    assert json.loads(printed) == {"address": "http://127.0.0.1:9/word/"}
    assert served[0].names == ("epoch-001", "epoch-002", "epoch-010")
    found = [subject.net.affine_map(digits.test.inputs[:1]) for subject in served[0].subjects]
    biases = [float(amap.offset_contributions()["5"][0, 0]) for amap in found]
    assert biases == pytest.approx([1.0, 2.0, 10.0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoints", "nowhere.pt"), "there is no file nowhere.pt"),
        (("--checkpoints", "{empty}"), "holds no files that end in .safetensors"),
        (("--checkpoints", "{weights}", "--state-dict", "{weights}"), "leave --state-dict and --epochs out"),
        (("--checkpoints", "{weights}", "--epochs", "2"), "leave --state-dict and --epochs out"),
        (("--checkpoints", "{weights}", "--model", "x.pt2"), "an exported model holds its own weights"),
        (("--checkpoints", "{weights}"), "unreadable"),
        (("mlp", "--epochs", "0", "--until", "nowhere"), "nowhere"),
    ],
)
def test_errors_name_argument_and_cure(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    places = {"empty": tmp_path / "empty", "weights": tmp_path / "weights.safetensors"}
    code, printed, complaints = _run(*(word.format(**places) for word in words))
    assert (code, printed.count("explorer:")) == (1, 0) and message in complaints


@pytest.mark.parametrize(("port", "message"), [("taken", "cannot be had"), (70000, "cannot be had")])
def test_a_port_that_cannot_be_had(port: int | str, message: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        chosen = other.getsockname()[1] if port == "taken" else port
        code, _, complaints = _run("mlp", "--epochs", 0, "--train-limit", 10, "--port", chosen)
    assert code == 1 and message in complaints


def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    code, printed, complaints = _run()
    assert (code, printed) == (1, "") and "needs uvicorn" in complaints and "maxaffine[explore]" in complaints


def test_ctrl_c_ends_it_cleanly_while_it_works() -> None:
    running = start("cnn", "digits", "--epochs", 0)
    images = json.dumps({"images": ["test/0", "test/1", "test/2"], "checkpoint": 0, "window": None})
    assert running.ask("plane", body=images.encode())["state"] == "running"
    assert running.stop() == (0, "")
