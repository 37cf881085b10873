"""The commands, run in this process; what the page says is compared with the module's own computations."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from maxaffine import SplineNetwork
from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine import _report as report
from maxaffine._capture import capture
from maxaffine._cli import main
from maxaffine._cli.main import COMMANDS
from maxaffine._report import files
from maxaffine._report import subject as capturing
from tests.pages import check_page

MODELS = """
import torch
from torch import nn

def plain():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

def soft():
    return nn.Sequential(plain(), nn.Softmax(1))

def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))

def leaves():
    raise SystemExit("no accelerator")

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return {"mean": x.mean((1, 2, 3)), "logits": self.net(x)}
"""


class Ran(NamedTuple):
    """One report: where its page is, what was printed, its page and its numbers."""

    out: Path
    printed: str
    page: str
    numbers: dict


def _run(*words: object) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def _report(out: Path, *words: object) -> Ran:
    code, printed, complaints = _run("report", "-o", out, "--images", 1, "--train-limit", 50, *words)
    assert code == 0 and complaints == "", complaints  # no progress where stderr is no terminal
    numbers = (out / report.RESULTS).read_text(encoding="utf-8")
    return Ran(out, printed, (out / report.PAGE).read_text(encoding="utf-8"), json.loads(numbers))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("report") / "out"
    return _report(out, "--model", "mlp", "--epochs", 2, "--neighbors", 4, "--train-limit", 300, "--images", 3)


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load("digits")


@pytest.fixture(scope="module")
def trained(ran: Ran) -> nn.Sequential:
    """The network of the report, from the weights that it left."""
    weights = ran.out / report.WEIGHTS
    model = models.load_model("maxaffine._models:mlp", weights, input_shape=(1, 8, 8), classes=10)
    assert isinstance(model, nn.Sequential)
    return model.requires_grad_(False)


@pytest.fixture
def factories(tmp_path: Path) -> Path:
    path = tmp_path / "factories.py"
    path.write_text(MODELS, encoding="utf-8")
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, two thirds of their time: for tests of what they say."""
    monkeypatch.setattr(files, "illustrations", lambda contents: ())


def _split(model: nn.Module, x: Tensor, unit: int) -> tuple[float, float, np.ndarray]:
    """<A_c, x>, b_c and A_c from automatic differentiation."""
    leaf = x.clone().requires_grad_()
    logit = model(leaf[None])[0, unit]
    (slopes,) = torch.autograd.grad(logit, leaf)
    inner = float((slopes.double() * x.double()).sum())
    return inner, float(logit.detach()) - inner, slopes.numpy()


def test_report_ends_by_naming_the_page(ran: Ran) -> None:
    lines = ran.printed.splitlines()
    assert lines[0] == "digits: 1438 training and 359 test inputs"
    assert lines[1].startswith("mlp: trained here: 2 epochs with seed 0")
    assert [line.split()[0] for line in lines[2:5]] == ["exact", "exact", "test"]
    # What to do follows, and then what nothing is to be done about.
    assert lines[5].startswith("to do next: ") and lines[-2].startswith("operators: ")
    assert [line.split()[0] for line in lines].count("memorization:") == 1
    assert lines[-1] == f"report: {ran.out.resolve() / report.PAGE}"
    assert {path.name for path in ran.out.iterdir()} == {
        "report.html",
        "results.json",
        "weights.safetensors",
        "figures",
    }
    assert {"plane.svg", "plane.png", "plane.json"} <= {path.name for path in (ran.out / "figures").iterdir()}


def test_page_needs_nothing_else(ran: Ran) -> None:
    check_page(ran.page)
    assert len(ran.page) < 3_000_000


def test_page_shows_the_splits_that_autograd_gives(ran: Ran, trained: nn.Sequential, digits: data.DataSet) -> None:
    cards = r'<div id="input-(\d+)">(.*?)(?=<details class="card"|</section>)'
    articles = re.findall(cards, ran.page, re.DOTALL)
    assert len(articles) == 3
    for number, article in articles:
        x = digits.test.inputs[int(number)]
        classes = [int(name) for name in re.findall(r"template of <strong>(\d)</strong>", article)]
        assert classes[:3] == trained(x[None])[0].argsort(descending=True)[:3].tolist()
        rows = [
            re.findall(r'<td class="n">([^<]*)</td>', row) for row in re.findall(r"<tr.*?</tr>", article, re.DOTALL)
        ]
        inner, offset, logit = [[float(cell.replace("−", "-")) for cell in row] for row in rows[1:4]]
        # As many digits as tell the outputs apart.
        shown = 0.6 * 10.0 ** -len(rows[1][0].split(".")[1])
        for place, unit in enumerate(classes):
            expected, rest, _ = _split(trained, x, unit)
            assert inner[place] == pytest.approx(expected, abs=shown)
            assert offset[place] == pytest.approx(rest, abs=shown)
            assert logit[place] == pytest.approx(float(trained(x[None])[0, unit]), abs=shown)


def test_page_shows_the_templates_that_autograd_gives(ran: Ran, trained: nn.Sequential, digits: data.DataSet) -> None:
    pattern = r'<img src="data:image/png;base64,([^"]*)" alt="Template of (\d) at test input (\d+)'
    found = re.findall(pattern, ran.page)
    assert len(found) >= 9
    for encoded, unit, number in found:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)
        _, _, slopes = _split(trained, digits.test.inputs[int(number)], int(unit))
        shown = json.loads((ran.out / "figures" / f"templates-{int(number):05}.json").read_text(encoding="utf-8"))
        scale = max(np.abs(split["template"]).max() for split in shown["splits"])
        clear = np.abs(slopes[0]) > 0.05 * scale
        assert pixels.shape == (8, 8, 3) and clear.any()
        assert (np.sign(pixels[..., 0] - pixels[..., 2]) == np.sign(slopes[0]))[clear].all()


def test_neighbors_share_the_activation_patterns(ran: Ran, trained: nn.Sequential, digits: data.DataSet) -> None:
    found = ran.numbers["neighbors"]
    searched = torch.linspace(0, 1437, 300, dtype=torch.float64).round().long()
    assert found["encoded"] == 300 and "300 of 1,438 training inputs, evenly spaced" in ran.page
    patterns = trained[:2](digits.train.inputs[searched]) > 0
    for query in found["queries"]:
        own = trained[:2](digits.test.inputs[query["index"]][None]) > 0
        distances = (patterns != own).double().mean(1)
        name, layer = query["layers"][0]
        assert name == "2 (relu)"
        assert [one["distance"] for one in layer] == pytest.approx(distances.sort().values[:4].tolist())
        for one in layer:
            place = searched.tolist().index(one["index"])
            assert one["distance"] == pytest.approx(float(distances[place]))
            assert one["label"] == str(int(digits.train.labels[one["index"]]))


def test_page_states_operators_accuracy_and_residuals(ran: Ran, trained: nn.Sequential, digits: data.DataSet) -> None:
    accuracy = models.accuracy(trained, digits.test)
    assert f"test accuracy: {accuracy:.2%}" in ran.printed
    assert f"<dd>{100 * accuracy:.1f}%</dd>" in ran.page and ran.numbers["accuracy"]["share"] == accuracy
    rows = re.findall(r'<tr class="(pieced|affine)"><td>(\d)</td><td>(\w+)</td>', ran.page)
    assert [(kind, name) for kind, name, _ in rows if kind == "pieced"] == [("pieced", "2"), ("pieced", "4")]
    for check in ran.numbers["checks"]:
        assert f"{check['report']['bound']:.1e}".replace("-", "−") in ran.page
    assert [check["dtype"] for check in ran.numbers["checks"]] == ["float32", "float64"]


@pytest.mark.usefixtures("undrawn")
def test_json_alone_on_stdout(tmp_path: Path, factories: Path) -> None:
    ran = _report(tmp_path / "out", "--model", f"{factories}:plain", "--json")
    printed = json.loads(ran.printed)
    assert printed.pop("page") == str(tmp_path / "out" / "report.html")
    assert printed == ran.numbers


@pytest.mark.usefixtures("undrawn")
def test_softmax_is_refused_and_can_be_left_out(tmp_path: Path, factories: Path, digits: data.DataSet) -> None:
    code, _, complaints = _run("report", "--out", tmp_path / "out", "--model", f"{factories}:soft")
    assert code == 1 and "softmax" in complaints and "--output pre_activation" in complaints
    ran = _report(tmp_path / "out", "--model", f"{factories}:soft", "--output", "pre_activation")
    model = models.load_model(f"{factories}:plain")
    for one in ran.numbers["answers"]:
        logits = model(digits.test.inputs[one["index"]][None])[0].detach()
        assert [split["value"] for split in one["splits"]] == pytest.approx(logits[[s["unit"] for s in one["splits"]]])


@pytest.mark.usefixtures("undrawn")
def test_one_of_several_outputs(tmp_path: Path, factories: Path) -> None:
    ran = _report(tmp_path / "out", "--model", f"{factories}:Two", "--output-index", 1)
    assert ran.numbers["accuracy"] is not None
    code, _, complaints = _run("report", "--out", tmp_path / "no", "--model", f"{factories}:Two", "--output-index", 2)
    assert code == 1 and "output_index" in complaints


@pytest.mark.usefixtures("undrawn")
def test_exported_archive_and_weights_in_a_file(tmp_path: Path, factories: Path) -> None:
    model = models.load_model(f"{factories}:plain")
    program = torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    archive = tmp_path / "plain.pt2"
    torch.export.save(program, archive)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    first = _report(tmp_path / "a", "--model", archive)
    second = _report(tmp_path / "b", "--model", f"{factories}:plain", "--state-dict", tmp_path / "weights.pt")
    assert "read from weights.pt" in second.printed
    assert first.numbers["answers"] == second.numbers["answers"]
    code, _, complaints = _run("report", "--out", tmp_path / "c", "--model", archive, "--epochs", 1)
    assert code == 1 and "--epochs" in complaints


@pytest.mark.usefixtures("undrawn")
def test_vectors_from_a_file(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    inputs = (generator.normal(size=(40, 5)) + labels[:, None]).astype(np.float32)
    np.savez(tmp_path / "rows.npz", inputs=inputs, labels=labels)
    ran = _report(tmp_path / "out", "--data", tmp_path / "rows.npz", "--model", "mlp", "--epochs", 1)
    assert "The templates share one scale" in ran.page


def _pickle(path: Path) -> Path:
    torch.save(nn.Linear(2, 2), path)
    return path


def _broken(path: Path) -> Path:
    path.write_bytes(b"no weights at all")
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "absent.npz"], "neither a data set .* nor a file"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--model", "resnett"], "no network 'resnett' .* did you mean 'resnet'"),
        (["--model", "absent.package:net"], "cannot be imported"),
        (["--model", "{tmp}/factories.py:absent"], "has no 'absent'"),
        (["--model", "{tmp}/pickled.pt"], "pickled module, which is refused"),
        (["--model", "cnn", "--state-dict", "{tmp}/pickled.pt"], "unpickling can run any code, so it is refused"),
        (["--model", "cnn", "--state-dict", "{tmp}/broken.pt"], "broken.pt"),
        (["--model", "cnn", "--state-dict", "{tmp}/absent.pt"], "absent.pt"),
        (["--model", "{tmp}/broken.pt2"], "broken.pt2"),
        (["--model", "{tmp}/factories.py:smooth"], r"aten.tanh in module '2' was refused: .*\n  cure: "),
        (["--model", "{tmp}/factories.py:smooth", "--until", "nothing"], "until: .*'nothing'"),
        (["--model", "{tmp}/factories.py:plain", "--output", "pre_activation"], "output: 'pre_activation' needs"),
        (
            ["--model", "{tmp}/factories.py:plain", "--output", "soft"],
            "expected 'as_is' or 'pre_activation', got 'soft'",
        ),
        (["--size", "3"], "size: does not apply to digits"),
        (["--model", "{tmp}/factories.py:plain", "--mean", "0.1,0.2"], "--mean: 2 numbers, but 1 channels"),
        (["--model", "{tmp}/factories.py:plain", "--std", "0"], "std: .* finite numbers above 0"),
        (["--model", "{tmp}/broken.pt2", "--mean", "0"], "do not apply to an exported archive; export"),
        (["--mean", "0.5", "--epochs", "1"], "--mean, --std: they do not apply to a network that is trained here"),
        (["--data", "{tmp}/signals.npz"], r'channels="first".*\n  here: --channels first'),
        (["--data", "{tmp}/sizes"], r"resize the images, or pass size=.*\n  here: --size N"),
        (["--out", "{tmp}/mine.html"], "is a file, and a folder is written; name another"),
        (["--out", "{tmp}/factories.py/out"], "cannot be written"),
        (["--out", "{tmp}/" + 300 * "x"], "cannot be written .*too long"),
        (["--out", "{tmp}/circle/out"], "cannot be written"),
        (["--out", "{tmp}/pictures"], r"is there and not empty; .*\n  here: --overwrite"),
        (["--data", 300 * "x"], "cannot be read .*too long"),
        (["--data", "~nobody-of-this-name"], "lies in the home of nobody here"),
        (["--model", "{tmp}/factories.py:leaves"], "calling it failed .SystemExit: no accelerator"),
        (["--data", "{tmp}/bare.npz", "--model", "mlp"], "bare has no labels, so there is nothing to train on"),
    ],
)
def test_errors_are_told_without_a_traceback(words: list[str], expected: str, tmp_path: Path, factories: Path) -> None:
    _pickle(tmp_path / "pickled.pt")
    _broken(tmp_path / "broken.pt")
    _broken(tmp_path / "broken.pt2")
    signals = np.linspace(-3, 5, 80, dtype=np.float32).reshape(20, 1, 4)
    np.savez(tmp_path / "signals.npz", inputs=signals, labels=np.arange(20) % 2)
    (tmp_path / "mine.html").write_text("mine")
    np.savez(tmp_path / "bare.npz", inputs=np.zeros((8, 3), np.float32))
    for folder in ("sizes", "pictures"):
        (tmp_path / folder).mkdir()
        for side in (4, 5):
            Image.new("L", (side, side)).save(tmp_path / folder / f"{side}.png")
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(tmp_path.rglob("*"))
    filled = [word.replace("{tmp}", str(tmp_path)) for word in words]
    epochs = 1 if "bare" in filled[1] else 0
    code, _, complaints = _run("report", "--epochs", epochs, "--out", tmp_path / "out", *filled)
    assert code == 1
    assert complaints.startswith("maxaffine: ") and "Traceback" not in complaints
    assert re.search(expected, complaints), complaints
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "COMMAND"),
        (["explain"], "invalid choice"),
        (["report", "--bogus"], "--bogus"),
        (
            ["encode", "cnn", "digits", "more", "--store", "x"],
            "unrecognized arguments: more; see maxaffine encode --help",
        ),
        (["report", "--images", "0"], "0 is too few"),
        (["report", "--epochs", "-1"], "expected one argument|whole number"),
        (["report", "--mean", "x"], "'x' is not a list of numbers"),
        (["train", "--mean", "0.5"], "unrecognized arguments: --mean"),
        (["report", "--seed", "x"], "'x' is not a whole number"),
        (["report", "--out", "~nobody-of-this-name/x.html"], "lies in the home of nobody here"),
        (["neighbors", "--state-dict", "~nobody-of-this-name/x.pt"], "lies in the home of nobody here"),
        (["operators", "--input-shape", "3,,8"], "whole number"),
    ],
)
def test_wrong_usage_is_code_2(words: list[str], expected: str) -> None:
    code, printed, complaints = _run(*words)
    assert code == 2 and not printed
    assert re.search(expected, complaints)


@pytest.mark.parametrize("command", [module.__name__.rpartition(".")[2] for module in COMMANDS])
def test_help_shows_examples_and_what_every_command_has(command: str) -> None:
    code, printed, _ = _run(command, "--help")
    assert code == 0
    assert f"examples:\n  maxaffine {command}" in printed
    assert {"--json", "--seed", "--model", "--data"} <= set(re.findall(r"--[a-z]+", printed))
    assert re.search(rf"^ +{command}\b", _run("--help")[1], re.MULTILINE)


@pytest.mark.usefixtures("undrawn")
def test_inexact_is_code_1_and_said_on_the_page(
    tmp_path: Path, factories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crooked(model: nn.Module, example: Tensor, **options: object) -> SplineNetwork:
        other = models.load_model(f"{factories}:plain").to(example.dtype).requires_grad_(False)
        other.get_parameter("1.bias")[0] += 0.01
        return capture(other, example)

    monkeypatch.setattr(capturing, "capture", crooked)
    code, printed, _ = _run("report", "--out", tmp_path / "out", "--images", 1, "--model", f"{factories}:plain")
    assert code == 1 and "NOT exact" in printed
    assert "Not exact." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("failure", "code"), [(KeyboardInterrupt(), 130), (OSError("disk full"), 1)])
def test_a_failure_while_writing_leaves_the_earlier_report(
    failure: BaseException, code: int, tmp_path: Path, factories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> str:
        raise failure

    monkeypatch.setattr(files, "render", fail)
    earlier = tmp_path / "out" / "report.html"
    earlier.parent.mkdir()
    earlier.write_text("earlier")
    words = ["report", "--out", tmp_path / "out", "--overwrite", "--model", f"{factories}:plain", "--images", 1]
    found, _, complaints = _run(*words)
    assert found == code and ("interrupted" in complaints or "disk full" in complaints)
    assert earlier.read_text().endswith("earlier") and list(earlier.parent.iterdir()) == [earlier]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["factories.py", "out"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["report", "neighbors", "partition"])
def test_weights_beside_an_earlier_report_are_read_and_kept(command: str, tmp_path: Path, factories: Path) -> None:
    out = tmp_path / "out"
    kept = out / report.WEIGHTS
    little = ["--extent=0,0.1,0,0.1"] if command == "partition" else ["--images", 1]
    words = [command, "mlp", "--out", out, *little]
    small = ["--data", tmp_path / "small.npz"]
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    np.savez(tmp_path / "small.npz", inputs=rows, labels=np.arange(30) % 3)
    assert _run(*words, *small, "--epochs", 1)[0] == 0
    content = kept.read_bytes()
    code, _, complaints = _run(*words, *small, "--state-dict", kept)
    assert code == 1 and "is there and not empty" in complaints and kept.read_bytes() == content
    code, printed, _ = _run(*words, *small, "--state-dict", kept, "--overwrite")
    assert code == 0 and kept.read_bytes() == content and "read from weights.safetensors" in printed
    assert _run(*words, *small, "--epochs", 1, "--overwrite")[0] == 0


def test_links_lead_to_the_figures_whatever_the_folders_name_is(tmp_path: Path, factories: Path) -> None:
    ran = _report(tmp_path / os.fsdecode(b"100%25 #1? a:b \xc3\xa9 caf\xe9"), "--model", f"{factories}:plain")
    links = set(re.findall(r'href="([^"#][^"]*)"', ran.page))
    assert len(links) > 10 and not [link for link in links if set(link) & set("?#: %")]
    assert all((ran.out / link).is_file() for link in links)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_other_encodings_than_utf8(encoding: str, tmp_path: Path, factories: Path) -> None:
    """A terminal, or a file that the output goes to, may lack the sign for another class, and those of names."""
    for name in (b"caf\xe9", "ж".encode()):
        (tmp_path / "images" / os.fsdecode(name)).mkdir(parents=True)
        for number in range(3):
            place = tmp_path / "images" / os.fsdecode(name) / f"{number}.png"
            Image.fromarray(np.eye(8, dtype=np.uint8) * (80 * number) + np.uint8(20 * len(name))).save(place)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(terminal):
        output = ["--out", str(tmp_path / "neighbors")]
        assert main(["neighbors", f"{factories}:plain", str(tmp_path / "images"), "--count", "3", *output]) == 0
    terminal.flush()
    printed = terminal.buffer.getvalue()
    assert rb"\u2260" in printed and rb"\u0436" in printed


def test_ctrl_c_while_training_leaves_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "maxaffine", "report", "--epochs", "100000", "--out", "out", "--model", "mlp"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("digits: ")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.send_signal(signal.SIGINT)
        try:
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    # Python ends itself by the signal where it came during imports that run strings; a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT)
    assert complaints == "maxaffine: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_importing_is_quiet() -> None:
    program = """
import builtins, sys
real = builtins.__import__
def interrupted(name, *rest):
    if name == "torch":
        raise KeyboardInterrupt
    return real(name, *rest)
builtins.__import__ = interrupted
from maxaffine_command import main
sys.exit(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "")


def test_weights_of_a_trainer_are_opened_with_a_word(tmp_path: Path, factories: Path) -> None:
    state = {f"module.{name}": value for name, value in models.load_model(f"{factories}:plain").state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "weights.pt")
    words = [sys.executable, "-m", "maxaffine", "operators", f"{factories}:plain", "digits", "--state-dict"]
    ran = subprocess.run([*words, tmp_path / "weights.pt"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert ran.stderr == (
        "maxaffine: weights.pt: a checkpoint; the weights are those of its entry 'state_dict'\n"
        "maxaffine: weights.pt: the names of its weights begin with 'module.', which was dropped\n"
    )


def test_an_onnx_file_is_compared_with_onnxruntime_on_the_data(tmp_path: Path, factories: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(models.load_model(f"{factories}:plain"), (torch.zeros(1, 1, 8, 8),), path, dynamo=False)
    ran = _report(tmp_path / "page", "--model", path)
    words = ("net.onnx on digits", "opset", "differ from onnxruntime", "on 64 inputs")
    assert [word for word in words if word not in ran.page] == []
    assert _run("operators", path, "digits")[0] == 0
    code, _, complaints = _run("report", path, "digits", "--epochs", 1, "--out", tmp_path / "b")
    assert code == 1 and "an exported model cannot be trained" in complaints
    code, _, complaints = _run("operators", path, "--input-shape", "2,8,8")
    assert code == 1 and "takes inputs" in complaints and "(1, 8, 8), not (2, 8, 8)" in complaints


def test_without_the_extra_the_report_says_how_to_get_it(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["matplotlib"] = sys.modules["jinja2"] = None
from maxaffine._cli import main
from maxaffine._cli.main import COMMANDS
assert main(["operators", "--rules"]) == 0
sys.exit(main(["report", "--out", "out"]))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == (
        "maxaffine: a report needs matplotlib and jinja2, which are not installed; "
        "run pip install 'maxaffine[report]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_drawing_packages_are_imported_late_and_pyplot_never(tmp_path: Path, factories: Path) -> None:
    program = f"""
import sys
from maxaffine._cli import main
from maxaffine._cli.main import COMMANDS
assert not {{"matplotlib", "jinja2", "PIL"}} & set(sys.modules)
assert main(["report", "--images", "1", "--train-limit", "50", "--out", "out", "--model", "{factories}:plain"]) == 0
assert "matplotlib.pyplot" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "no progress where stderr is no terminal"


def test_operators_as_text_and_json(factories: Path) -> None:
    code, printed, _ = _run("operators", "--model", f"{factories}:plain")
    assert code == 0 and printed.startswith("SplineNetwork: 4 operators, 1 of them piecewise affine with 12 units")
    code, printed, _ = _run("operators", "--model", "resnet", "--input-shape", "3,16,16", "--classes", 7, "--json")
    found = json.loads(printed)
    assert code == 0 and found["convex"] is False
    assert found["operators"][0]["units"] == [16, 16, 16] and found["operators"][-1]["units"] == [7]


def test_rules_lists_the_registry() -> None:
    code, printed, _ = _run("operators", "--rules")
    table = dict(line.split() for line in printed.splitlines())
    assert code == 0 and table["aten.relu.default"] == "activation"
    listed = json.loads(_run("operators", "--rules", "--json")[1])
    assert {row["operator"]: row["rule"] for row in listed} == table


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"{sys.executable} -m maxaffine operators --rules | head -1"
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert len(ran.stdout.splitlines()) == 1 and ran.stderr == ""
