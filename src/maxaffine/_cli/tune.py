"""``maxaffine tune``: the curvature at which a new linear probe predicts set-aside training inputs best."""

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from maxaffine import _curvature as curvature
from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._files import replacing
from maxaffine.errors import BadInput

from .arguments import DONE, INTERRUPTED, add_command, answer, not_negative, numbers, path, progress
from .loading import capture_model, read_data, trained_model

EXAMPLES = """examples:
  maxaffine tune                                                a cnn, on scikit-learn's digits
  maxaffine tune my_package.nets:make images/ --size 64 --state-dict weights.safetensors
  maxaffine tune net.onnx mine.npz --features 12.relu --grid 0.8,0.9,0.95 --json
  maxaffine tune cnn fashion-mnist --out tuned.pt2              the tuned network, which other commands read
"""
SHARE = 0.2  # of each class of the training part, set aside for validation


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "choose the curvature of a network on set-aside training inputs, with a new linear probe"
    option = add_command(commands, "tune", run, does, EXAMPLES)
    option("--grid", "betas to try, in [0, 1) (default: 0.70 to 0.99 in steps of 0.01)", numbers, metavar="B,B")
    option("--form", "soft form of a unit", None, "mixed", choices=curvature.FORMS)
    option("--features", "operator or module whose output the probe takes (default: before the last linear layer)")
    option("--penalty", "weight of the probe's squared weights", not_negative, 1e-3, "X")
    option("--test", "also count right answers on the test part, once, after beta is chosen", action="store_true")
    option("-o --out", "file of the tuned network (.pt2)", path)


def run(arguments: argparse.Namespace) -> int:
    """Tune."""
    if arguments.out is not None and arguments.out.suffix != ".pt2":
        raise BadInput(f"--out: {arguments.out} is no .pt2 file; an exported network is one")
    data_set = read_data(arguments)
    if data_set.train.targets is not None or data.without_classes(data_set.class_names):
        raise BadInput(f"data: {data_set.name} has no classes; tune chooses beta by right answers")
    parts = data.split_by_class(data_set.name, data_set.train, data_set.class_names, SHARE, arguments.seed)
    with TemporaryDirectory() as folder:
        # A network that is trained here must not see what beta is chosen on.
        model, weights = trained_model(arguments, replace(data_set, train=parts.train), Path(folder) / "weights.pt")
    weights = weights.partition(" (kept")[0]  # nothing is kept but the tuned network
    progress("capturing ...")
    net = capture_model(arguments, model, parts.train.inputs[:2])
    found = curvature.tune(
        net,
        parts.train,
        parts.test,
        curvature.GRID if arguments.grid is None else arguments.grid,
        form=arguments.form,
        features=arguments.features,
        penalty=arguments.penalty,
    )
    told = {"data": data_set.name, "weights": weights, **found.to_dict()}
    text = f"{found}\nweights: {weights}"
    if arguments.test:
        told["test"] = models.accuracy(found.model.eval(), data_set.test)
        text += f"\ntest accuracy at beta = {found.best:g}: {told['test']:.2%}"
    if arguments.out is not None:
        _save(found.model, parts.train.inputs[:2], arguments.out)
        text += f"\nwritten: {arguments.out}"
    answer(arguments, told, text)
    if found.interrupted:
        print("maxaffine: interrupted; betas are missing", file=sys.stderr)
    return INTERRUPTED if found.interrupted else DONE


def _save(model: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    """Export for any number of inputs, and write it completely or not at all."""
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes)
    buffer = io.BytesIO()  # PyTorch warns of a file of another name
    torch.export.save(program, buffer)
    with replacing(file) as fresh:
        fresh.write_bytes(buffer.getvalue())
