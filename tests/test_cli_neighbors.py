"""``maxaffine neighbors`` from the words of the command line to the files, against the module's own activations."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch

from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._cli import main
from tests.pages import check_page


def _run(*words: object) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["neighbors", *(str(word) for word in words)])
    return code, out.getvalue(), err.getvalue()


MLP = ("--model", "mlp", "--epochs", 1, "--train-limit", 200)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("neighbors") / "out"
    code, printed, complaints = _run(*MLP, "--query", 4, 9, "--count", 3, "--operators", 4, "--audit", "--out", folder)
    assert code == 0, complaints
    (folder.parent / "printed.txt").write_text(printed, encoding="utf-8")
    return folder


def test_neighbors_share_the_modules_activations(out: Path) -> None:
    digits = data.load("digits")
    weights = out / "weights.safetensors"
    model = models.load_model("maxaffine._models:mlp", weights, input_shape=(1, 8, 8), classes=10)
    searched = torch.linspace(0, 1437, 200, dtype=torch.float64).round().long()
    with torch.no_grad():
        patterns = model.get_submodule("4")(model[:4](digits.train.inputs[searched])) > 0  # type: ignore[index]
        found = json.loads((out / "results.json").read_text(encoding="utf-8"))["neighbors"]
        assert [query["index"] for query in found["queries"]] == [4, 9] and found["operators"] == ["4"]
        for query in found["queries"]:
            own = model[:4](digits.test.inputs[query["index"]][None]) > 0  # type: ignore[index]
            distances = (patterns != own).double().mean(1)
            ((name, layer),) = query["layers"]
            assert name == "4 (relu)"
            assert [one["distance"] for one in layer] == pytest.approx(distances.sort().values[:3].tolist())
            for one in layer:
                assert one["label"] == str(int(digits.train.labels[one["index"]]))


def test_prints_the_table_and_leaves_pictures(out: Path) -> None:
    printed = (out.parent / "printed.txt").read_text(encoding="utf-8")
    assert "test input 9, class" in printed and f"neighbors: {out / 'report.html'}" in printed
    assert "near-duplicates among 200 training inputs" in printed and "label-error candidates" in printed
    check_page((out / "report.html").read_text(encoding="utf-8"), ["same"])
    assert {"neighbors-00004.png", "neighbors-00009.png"} <= {path.name for path in (out / "figures").iterdir()}


def test_json_has_stdout_to_itself(tmp_path: Path) -> None:
    code, printed, _ = _run(*MLP, "--images", 2, "--json", "--out", tmp_path / "out")
    found = json.loads(printed)
    assert code == 0 and len(found["neighbors"]["queries"]) == 2 and found["audit"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--query", 359), "no test input 359; they are numbered from 0 to 358"),
        (("--operators", "typo"), "operators: ['typo'] are not piecewise-affine operators here"),
    ],
)
def test_errors_name_argument_and_cure(tmp_path: Path, words: tuple[object, ...], message: str) -> None:
    code, printed, complaints = _run("--model", "mlp", "--epochs", 0, *words, "--out", tmp_path / "out")
    assert code == 1 and message in complaints
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(printed)


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    code, _, complaints = _run("--out", tmp_path)
    assert (
        code == 1
        and "not empty" in complaints
        and "--overwrite" in complaints
        and (tmp_path / "mine.txt").read_text() == "precious"
    )
