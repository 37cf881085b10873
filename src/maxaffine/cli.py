"""The command ``maxaffine``: parse, call the rooms in order, set the exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from maxaffine.capture import capture, registered
from maxaffine.errors import BadInput, MaxAffineError, NotPiecewiseAffine
from maxaffine.network import SplineNetwork

from . import data, models, report

DONE, FAILED, INTERRUPTED = 0, 1, 130
# Epochs are chosen so that training sees about this many examples, within limits.
EXAMPLES = 50_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 40

# Refusals speak of capture's arguments, which are options of a command.
REFUSAL_OPTIONS = "\n  here: --output pre_activation, --until NAME"
REPORT_EXAMPLES = """examples:
  maxaffine report                                              a cnn on scikit-learn's digits, in half a minute
  maxaffine report --data fashion-mnist --model resnet --epochs 5
  maxaffine report --data images/ --size 32 --model mlp         a folder of images by class
  maxaffine report --model my_package.nets:make --state-dict weights.safetensors --output pre_activation
  maxaffine report --model exported.pt2 --data mine.npz --out my-report --json
"""
OPERATORS_EXAMPLES = """examples:
  maxaffine operators                                           the cnn for digits
  maxaffine operators --model torchvision.models:resnet18 --input-shape 3,224,224
  maxaffine operators --model exported.pt2 --data mine.npz --json
  maxaffine operators --rules                                   every operator that capture knows
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words; those of the process by default.

    Returns:
        0 when it did what was asked, 1 for a refusal, an error or an inexact result, 2 for wrong usage, 130 for Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except SystemExit as stop:
        return int(stop.code or DONE)
    except KeyboardInterrupt:
        print("maxaffine: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MaxAffineError as error:
        options = REFUSAL_OPTIONS if isinstance(error, NotPiecewiseAffine) else ""
        print(f"maxaffine: {error}{options}", file=sys.stderr)
        return FAILED


def _report(arguments: argparse.Namespace) -> int:
    report.require()
    out = arguments.out.expanduser().resolve()
    with report.staged(out) as folder:
        data_set = _data(arguments)
        _say(arguments, f"{data_set.name}: {len(data_set.train)} training and {len(data_set.test)} test inputs")
        model, weights = _trained(arguments, data_set, folder / report.WEIGHTS)
        _progress("capturing, verifying and explaining ...")
        contents = report.assemble(model, data_set, _choices(arguments), arguments.model, weights)
        _say(arguments, report.as_text(contents))
        _progress("drawing ...")
        report.write(contents, folder)
    if arguments.json:
        print(json.dumps({"page": str(out / report.PAGE)} | json.loads(report.as_json(contents)), indent=1))
    else:
        print(f"report: {out / report.PAGE}")
    return DONE if contents.exact else FAILED


def _operators(arguments: argparse.Namespace) -> int:
    if arguments.rules:
        return _rules(arguments)
    net = _captured(arguments)
    if arguments.json:
        fields = ("name", "kind", "pieces", "units", "convex", "continuous", "module_path")
        records = [{field: getattr(record, field) for field in fields} for record in net.operators]
        print(json.dumps({"convex": net.convex, "operators": records}, indent=1))
    else:
        print(net)
    return DONE


def _rules(arguments: argparse.Namespace) -> int:
    rows = sorted({(str(target), rule.build.__module__.rpartition(".")[2]) for target, rule in registered().items()})
    if arguments.json:
        print(json.dumps([{"operator": operator, "rule": family} for operator, family in rows], indent=1))
    else:
        width = max(len(operator) for operator, _ in rows)
        print("\n".join(f"{operator.ljust(width)}  {family}" for operator, family in rows))
    return DONE


def _captured(arguments: argparse.Namespace) -> SplineNetwork:
    if arguments.input_shape is not None:
        example = torch.zeros(2, *arguments.input_shape)
        model = _model(arguments, arguments.input_shape, arguments.classes)
    else:
        data_set = _data(arguments)
        example = data_set.test.inputs[:2]
        model = _model(arguments, data_set.input_shape, data_set.classes)
    return capture(model, report.like_model(example, model), until=arguments.until, output=arguments.output)


def _data(arguments: argparse.Namespace) -> data.DataSet:
    return data.load(
        arguments.data,
        labels=arguments.labels,
        size=arguments.size,
        channels=arguments.channels,
        seed=arguments.seed,
    )


def _named(arguments: argparse.Namespace) -> bool:
    """Whether the model is one of ours, or a mistyped name of one: no module:factory and no file."""
    return ":" not in arguments.model and not Path(arguments.model).suffix


def _model(arguments: argparse.Namespace, input_shape: Sequence[int], classes: int) -> nn.Module:
    """The model with the weights it has at first: its file's, its factory's, or drawn from the seed."""
    if not _named(arguments):
        return models.load_model(arguments.model, arguments.state_dict)
    if arguments.state_dict is None:
        return models.build(arguments.model, input_shape, classes, seed=arguments.seed).eval()
    factory = f"maxaffine.models:{arguments.model.replace('-', '_')}"
    return models.load_model(factory, arguments.state_dict, input_shape=input_shape, classes=classes)


def _trained(arguments: argparse.Namespace, data_set: data.DataSet, checkpoint: Path) -> tuple[nn.Module, str]:
    """The model, trained where that is asked for, and one sentence on where its weights come from."""
    model = _model(arguments, data_set.input_shape, data_set.classes)
    fresh = _named(arguments) and arguments.state_dict is None
    epochs = arguments.epochs if arguments.epochs is not None else _epochs(len(data_set.train)) if fresh else 0
    if epochs == 0:
        drawn = f"drawn at random with seed {arguments.seed}, not trained" if fresh else "as the model was loaded"
        return model, f"read from {arguments.state_dict.name}" if arguments.state_dict else drawn
    if arguments.model.endswith(".pt2"):
        raise BadInput("--epochs: an exported archive cannot be trained; give a factory, or leave --epochs out")
    start = time.perf_counter()
    result = models.train(model, data_set.train, epochs=epochs, seed=arguments.seed, checkpoint=checkpoint)
    if result.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    passes = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return model, f"trained here: {passes} with seed {arguments.seed} in {seconds:.1f} s (kept in {checkpoint.name})"


def _epochs(examples: int) -> int:
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(EXAMPLES / examples)))


def _choices(arguments: argparse.Namespace) -> report.Choices:
    return report.Choices(
        images=arguments.images,
        neighbours=arguments.neighbors,
        train_limit=arguments.train_limit,
        output=arguments.output,
        until=arguments.until,
        output_index=arguments.output_index,
    )


def _say(arguments: argparse.Namespace, text: str) -> None:
    """One finding on stdout, which belongs to the JSON alone where that is asked for."""
    if not arguments.json:
        print(text, flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maxaffine", description="The exact spline form of piecewise-affine networks.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"maxaffine {version('maxaffine')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = _command(commands, "report", _report, "explain a network on one self-contained page", REPORT_EXAMPLES)
    add = command.add_argument
    add("--epochs", type=_natural, metavar="N", help="passes of training (0: none; default: by the size of the data)")
    add(
        "--out",
        type=Path,
        default=Path("maxaffine-report"),
        metavar="DIR",
        help="folder to write (default: %(default)s)",
    )
    add("--images", type=_positive, default=6, metavar="N", help="test inputs to explain (default: %(default)s)")
    add(
        "--neighbors",
        type=_positive,
        default=6,
        metavar="K",
        help="nearest training inputs to show (default: %(default)s)",
    )
    add(
        "--train-limit",
        type=_positive,
        default=5000,
        metavar="N",
        help="training inputs to search (default: %(default)s)",
    )
    add(
        "--output-index",
        type=_natural,
        default=0,
        metavar="I",
        help="which output, of a dict or tuple (default: %(default)s)",
    )
    command = _command(commands, "operators", _operators, "list the operators of a network", OPERATORS_EXAMPLES)
    add = command.add_argument
    add("--rules", action="store_true", help="list instead every operator that capture has a rule for")
    add("--input-shape", type=_shape, metavar="C,H,W", help="shape of one input, in place of a data set's")
    add("--classes", type=_positive, default=10, metavar="C", help="outputs of one of our networks, with --input-shape")
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int], does: str, examples: str
) -> argparse.ArgumentParser:
    """A command with the options on model and data that every command has."""
    command = commands.add_parser(
        name,
        help=does,
        description=f"{does.capitalize()}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print JSON in place of text")
    add = command.add_argument_group("model").add_argument
    own = ", ".join(models.FACTORIES)
    forms = "package.module:factory, file.py:factory, or an exported file.pt2"
    add("--model", default="cnn", metavar="MODEL", help=f"one of ours ({own}), {forms} (default: %(default)s)")
    add("--state-dict", type=Path, metavar="FILE", help="weights: .safetensors, or .pt and .pth of tensors alone")
    add(
        "--seed",
        type=_natural,
        default=0,
        metavar="N",
        help="of first weights, training and split (default: %(default)s)",
    )
    stops = "pre_activation stops before a final softmax, sigmoid or tanh (default: %(default)s)"
    add("--output", choices=("as_is", "pre_activation"), default="as_is", help=stops)
    add("--until", metavar="NAME", help="stop behind this module")
    add = command.add_argument_group("data").add_argument
    forms = "a folder of images by class or of IDX files, an .npz, .npy or IDX file"
    add("--data", default="digits", metavar="DATA", help=f"{', '.join(data.NAMES)}, {forms} (default: %(default)s)")
    add("--labels", type=Path, metavar="FILE", help="labels of an .npy or IDX file")
    add("--size", type=_positive, metavar="N", help="side to which the images of a folder are resized")
    add("--channels", choices=("first", "last"), help="where arrays of images keep their channels")
    return command


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def _positive(text: str) -> int:
    if _natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is too few; give at least 1")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_positive(size) for size in text.split(","))
