"""The options that commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine._network import Task

Run = Callable[[argparse.Namespace], int]


class _Once(argparse.Action):
    """An argument given by its place or as an option, but not twice."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        given = vars(namespace).setdefault("given", {})
        if self.dest in given:
            parser.error(f"{self.metavar} is given twice: {given[self.dest]} and {values}")
        given[self.dest] = values
        setattr(namespace, self.dest, values)


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Run,
    does: str,
    examples: str,
    places: Sequence[str] = ("model", "data"),  # options that can also be given without their names
    captures: bool = True,  # and so takes the options on what the network is
) -> argparse.ArgumentParser:
    """A command with the options on model and data that every command has."""
    command = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    for place in places:
        does = f"the same as --{place}"
        command.add_argument(
            place, action=_Once, nargs="?", default=argparse.SUPPRESS, metavar=place.upper(), help=does
        )
    command.add_argument("--json", action="store_true", help="print JSON in place of text")
    add = command.add_argument_group("model").add_argument
    own = ", ".join(models.FACTORIES)
    forms = "package.module:factory, file.py:factory(width=64), or an exported file.pt2 or file.onnx"
    does = f"one of ours ({own}), {forms} (default: %(default)s)"
    add("--model", action=_Once, default="cnn", metavar="MODEL", help=does)
    add("--state-dict", type=path, metavar="FILE", help="weights: .safetensors, or .pt and .pth of tensors alone")
    does = "of first weights, training and split (default: %(default)s)"
    add("--seed", type=natural, default=0, metavar="N", help=does)
    command.set_defaults(output="as_is", until=None, mean=None, std=None, smooth="refuse")
    if captures:
        _add_inside(add)
    add = command.add_argument_group("data").add_argument
    forms = "a folder of images (by class, or without labels) or of IDX files, a .csv table, an .npz, .npy or IDX file"
    does = f"{', '.join(data.NAMES)}, {forms} (default: %(default)s)"
    add("--data", action=_Once, default="digits", metavar="DATA", help=does)
    add("--labels", type=path, metavar="FILE", help="labels of an .npy or IDX file")
    does = "columns of a table that are to be predicted, A,B (default: the last one)"
    add("--target", metavar="COLUMN", help=does)
    add("--drop", metavar="COLUMN", help="columns of a table to leave out, A,B")
    does = "what the outputs are: classes, a value, values, or a field over coordinates (default: inferred)"
    add("--task", choices=[task.value for task in Task], help=does)
    add("--size", type=positive, metavar="N", help="side to which the images of a folder are resized")
    does = "names of the network's outputs in their order, A,B,C or a file with one on each line: labels go by them"
    add("--class-names", metavar="NAMES", help=does)
    add("--channels", choices=("first", "last"), help="where arrays of images or signals keep their channels")
    return command


def _add_inside(add: Callable[..., object]) -> None:
    """Add the options on what the network is: how far it goes, and after which normalization."""
    stops = "pre_activation stops before a final softmax, sigmoid or tanh; or name one of several outputs, e.g. logits"
    add("--output", metavar="NAME", default="as_is", help=stops)
    add("--until", metavar="NAME", help="stop after this module")
    does = "smooth operators (GELU, attention, norms): refused, their gates held at each input, or by their tangent"
    add("--smooth", choices=("refuse", "frozen", "tangent"), default="refuse", help=does)
    does = "what the network takes is (x - mean) / std: a number, or one per channel (default: 0)"
    add("--mean", type=numbers, metavar="M,M,M", help=does)
    add("--std", type=numbers, metavar="S,S,S", help="see --mean (default: 1)")


def add_epochs(command: argparse.ArgumentParser) -> None:
    """Add the option of a command that trains a network which has no weights yet."""
    does = "passes of training (0: none; default: by the size of the data)"
    command.add_argument("--epochs", type=natural, metavar="N", help=does)


def add_out(command: argparse.ArgumentParser, default: str) -> None:
    """Add the options of a command that writes a folder."""
    does = "folder to write (default: %(default)s)"
    command.add_argument("-o", "--out", type=place, default=default, metavar="DIR", help=does)
    command.add_argument("--overwrite", action="store_true", help="replace the folder, with all that it holds")


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
