"""The command ``maxaffine train`` against the library's own training, and what it keeps when it is stopped."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import maxaffine as ma
from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._cli import main
from maxaffine._cli import train as command


def _run(*words: object) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def test_weights_are_those_of_the_same_training_by_hand(tmp_path: Path) -> None:
    out = tmp_path / "mlp.safetensors"
    code, printed, _ = _run("train", "mlp", "digits", "--epochs", 2, "--seed", 3, "-o", out, "--json")
    digits = data.load("digits", seed=3)
    model = models.build("mlp", digits.input_shape, digits.classes, seed=3)
    history = models.train(model, digits.train, epochs=2, seed=3).history
    found = json.loads(printed)
    assert code == 0 and found["best_epoch"] == 2 and found["weights"] == str(out)
    assert [epoch["loss"] for epoch in found["history"]] == [epoch.loss for epoch in history]
    assert found["test_accuracy"] == models.accuracy(model, digits.test)
    saved = load_file(out)
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


def test_templates_become_orthogonal_and_every_epoch_is_kept(tmp_path: Path) -> None:
    plain, penal = tmp_path / "plain.safetensors", tmp_path / "orthogonal.safetensors"
    assert _run("train", "mlp", "--epochs", 2, "-o", plain)[0] == 0
    words = ["train", "mlp", "--epochs", 2, "--orthogonal", 10, "--checkpoints", tmp_path / "epochs", "-o", penal]
    code, printed, _ = _run(*words)
    assert code == 0 and f"weights: {penal}" in printed
    rows = {path: list(load_file(path).items())[-2:] for path in (plain, penal)}
    size = {}
    for path, items in rows.items():
        (weight,) = (value for name, value in items if name.endswith("weight"))
        gram = weight @ weight.T
        size[path] = float((gram - gram.diag().diag()).norm() / gram.diag().norm())
    assert size[penal] < size[plain] / 5
    kept = sorted(path.name for path in (tmp_path / "epochs").iterdir())
    assert kept == ["epoch-001.safetensors", "epoch-002.safetensors"]
    last = load_file(tmp_path / "epochs" / "epoch-002.safetensors")
    assert all(torch.equal(last[name], value) for name, value in load_file(penal).items())


def test_ctrl_c_keeps_the_best_weights_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = models.save_weights

    def save_and_press(model: torch.nn.Module, path: Path) -> None:
        save(model, path)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command.models, "save_weights", save_and_press)
    out, folder = tmp_path / "w.pt", tmp_path / "epochs"
    code, printed, _ = _run("train", "mlp", "--epochs", 5, "-o", out, "--checkpoints", folder, "--json")
    found = json.loads(printed)
    assert code == 130 and found["interrupted"] and len(found["history"]) == 1
    first = load_file(folder / "epoch-001.safetensors")
    kept = torch.load(out, weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in first.items())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mlp", "--epochs", "0"], "epochs: 0 is not a positive number"),
        (["mlp", "-o", "absent/w.pt"], "cannot be written"),
        (["exported.pt2"], "--model: an exported model cannot be trained; give a factory"),
        (["mlp", "bare.npz"], "bare has no labels, so there is nothing to train on"),
        (["mlp", "one.npz"], "every label of one is 0 ('0'), so there is nothing to train on; pass --labels of two"),
        (["mlp", "--checkpoints", "bare.npz"], "--checkpoints: bare.npz is not a folder and cannot be made one"),
        (["mlp", "--checkpoints", "bare.npz/epochs"], "is not a folder and cannot be made one"),
        (["mlp", "--until", "1"], "unrecognized arguments: --until"),
        (["mlp", "--seed", str(2**64)], "seed: 18446744073709551616 is not a whole number below"),
        (["mlp", "-o", "w.onnx"], "ends in none of"),
        (["mlp", "--lr", "nan"], "not a number of at least 0"),
        (["mlp", "--orthogonal", "-1"], "not a number of at least 0"),
        (["mlp", "--model", "cnn"], "argument --model: not allowed with argument MODEL"),
        (["mlp", "digits", "--data", "digits"], "argument --data: not allowed with argument DATA"),
    ],
)
def test_bad_input(words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bare.npz", inputs=np.zeros((8, 3), np.float32))
    np.savez("one.npz", inputs=np.zeros((8, 3), np.float32), labels=np.zeros(8, int))
    code, printed, complaints = _run("train", *words)
    assert code in (1, 2) and complaint in complaints and "weights:" not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.npz", "one.npz"]


def test_ctrl_c_behind_the_training_says_where_the_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*arguments: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.models, "accuracy", press)
    out = tmp_path / "w.safetensors"
    code, _, complaints = _run("train", "mlp", "--epochs", 1, "-o", out)
    assert code == 130 and complaints.endswith(f"maxaffine: interrupted; the weights are in {out}\n")
    assert load_file(out)


def test_a_model_and_data_by_place_or_by_name() -> None:
    by_place, by_name = _run("operators", "mlp", "digits"), _run("operators", "--model", "mlp", "--data", "digits")
    mixed = _run("operators", "--data", "digits", "mlp")
    assert by_place == by_name == mixed and by_place[0] == 0
    assert _run("operators", "cnn", "digits") != by_place


def test_the_penalty_is_added_to_the_loss() -> None:
    """Against one step of Adam written out: its first step is lr times the sign of the gradient."""
    x, y = torch.eye(4), torch.arange(4)
    layer = torch.nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    penalty = ma.learning.OrthogonalTemplates(3.0)
    loss = torch.nn.functional.cross_entropy(layer(x), y) + penalty(layer, x)
    (gradient,) = torch.autograd.grad(loss, [layer.weight])
    (plain,) = torch.autograd.grad(torch.nn.functional.cross_entropy(layer(x), y), [layer.weight])
    assert not torch.equal(gradient.sign(), plain.sign())
    models.train(layer, data.Split(x, y), epochs=1, lr=0.01, penalty=penalty)
    torch.testing.assert_close(layer.weight, before - 0.01 * gradient.sign(), rtol=0, atol=1e-5)
