"""The options of the commands and the types of their values, and where a command's words go.

Findings go to stdout, unless JSON has it to itself, and progress to a terminal.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._network import Task

DONE, FAILED, INTERRUPTED = 0, 1, 130

Run = Callable[[argparse.Namespace], int]
Add = Callable[..., None]


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Run,
    does: str,
    examples: str,
    *,
    captures: bool = True,  # and so takes the options on what the network is
    trains: bool = True,  # a network that has no weights yet
    out: str = "",  # the folder that it writes
) -> Add:
    """A command with the options that others have too; the result adds one of its own."""
    command = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Model and data not as defaults of their arguments: argparse takes a value that is the default for none given.
    command.set_defaults(run=run, model="cnn", data="digits")
    command.set_defaults(output="as_is", until=None, mean=None, std=None, smooth="refuse")
    option = _adder(command)
    option("--json", "print JSON in place of text", action="store_true")
    _add_model(command.add_argument_group("model"), captures)
    _add_data(command.add_argument_group("data"))
    if trains:
        option("--epochs", "passes of training (0: none; default: by the size of the data)", natural)
    if out:
        option("-o --out", "folder to write", place, out, "DIR")
        option("--overwrite", "replace the folder, with all that it holds", action="store_true")
    return option


def _adder(group: argparse._ActionsContainer) -> Add:
    """The function that adds an option, whose words say its default where they do not say it already."""

    def add(names: str, does: str, type: Any = None, default: Any = None, metavar: str = "", **how: Any) -> None:
        # A flag takes no value.
        value = {} if "action" in how else {"type": type, "default": default, "metavar": metavar or METAVARS.get(type)}
        known = "" if default is None or "default: " in does else " (default: %(default)s)"
        group.add_argument(*names.split(), help=does + known, **value, **how)

    return add


def _add_place(group: argparse._ArgumentGroup, name: str, does: str) -> None:
    """Add an argument that is given by its place or as an option, but not in both ways."""
    either = group.add_mutually_exclusive_group()
    unset: dict[str, Any] = {"default": argparse.SUPPRESS, "metavar": name.upper()}
    either.add_argument(name, nargs="?", help=f"the same as --{name}", **unset)
    either.add_argument(f"--{name}", help=does, **unset)


def _add_model(group: argparse._ArgumentGroup, captures: bool) -> None:
    """Add the options on the model, how far the network goes in it, and after which normalization."""
    option, own = _adder(group), ", ".join(models.FACTORIES)
    forms = "package.module:factory, file.py:factory(width=64), or an exported file.pt2 or file.onnx"
    _add_place(group, "model", f"one of ours ({own}), {forms} (default: cnn)")
    option("--state-dict", "weights: .safetensors, or .pt and .pth of tensors alone", path)
    option("--seed", "of first weights, training and split", natural, 0)
    if not captures:
        return
    does = "pre_activation stops before a final softmax, sigmoid or tanh; or name one of several outputs, e.g. logits"
    option("--output", does, None, "as_is", "NAME")
    option("--until", "stop after this module", metavar="NAME")
    does = "smooth operators (GELU, attention, norms): refused, their gates held at each input, or by their tangent"
    option("--smooth", does, None, "refuse", choices=("refuse", "frozen", "tangent"))
    does = "what the network takes is (x - mean) / std: a number, or one per channel (default: 0)"
    option("--mean", does, numbers, metavar="M,M,M")
    option("--std", "see --mean (default: 1)", numbers, metavar="S,S,S")


def _add_data(group: argparse._ArgumentGroup) -> None:
    """Add the options on the data, and what the network is to make of them."""
    option = _adder(group)
    forms = (
        "a folder of images or WAV files (by class, or without labels) or of IDX files, a .csv table, an .npz, .npy or"
        " IDX file"
    )
    _add_place(group, "data", f"{', '.join(data.NAMES)}, {forms} (default: digits)")
    option("--labels", "labels of an .npy or IDX file", path)
    option(
        "--target",
        "columns of a table to predict, A,B (default: the last), or an array of an .npz",
        metavar="COLUMN",
    )
    option("--drop", "columns of a table to leave out, A,B", metavar="COLUMN")
    does = "what the outputs are: classes, a value, values, or a field over coordinates (default: inferred)"
    option("--task", does, choices=[task.value for task in Task])
    option("--size", "side to which the images of a folder are resized", positive)
    does = "names of the network's outputs in their order, A,B,C or a file with one on each line: labels go by them"
    option("--class-names", does, metavar="NAMES")
    option(
        "--channels",
        "where arrays of images or signals keep their channels; first for WAV files of several",
        choices=("first", "last"),
    )


def path(text: str) -> Path:
    """Read the name of a file or folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} lies in the home of nobody here") from error


def place(text: str) -> Path:
    """Read where to write."""
    return Path(os.path.realpath(path(text)))


def natural(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is too few; give at least 1")
    return int(text)


def not_negative(text: str) -> float:
    """Read a number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,0.5,0.5") from error


def shape(text: str) -> tuple[int, ...]:
    """Read the shape of one input."""
    return tuple(positive(size) for size in text.split(","))


# What the help writes in place of a value.
METAVARS = {natural: "N", positive: "N", path: "FILE"}


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print one finding on stdout, which belongs to the JSON alone where that is asked for."""
    if not arguments.json:
        print(text, flush=True)


def answer(arguments: argparse.Namespace, found: object, text: str) -> None:
    """Print what a command comes to: as JSON where that is asked for, else in words."""
    print(json.dumps(found, indent=1) if arguments.json else text, flush=True)


def progress(text: str) -> None:
    """Print what is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
