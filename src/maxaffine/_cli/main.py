"""Parse, run one command, set the exit code."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from maxaffine.errors import DataError, MaxAffineError, NotPiecewiseAffine

from . import encode, explore, neighbors, operators, partition, prune, report, train, tune
from .arguments import DONE, FAILED, INTERRUPTED

COMMANDS = (report, explore, train, tune, neighbors, partition, prune, encode, operators)
# Refusals speak of capture's arguments, which are options of a command.
REFUSAL_OPTIONS = "\n  here: --output pre_activation, --until NAME, --smooth frozen"
# And those of data, and of folders to write, speak of arguments of functions.
LOAD_OPTIONS = {
    "channels=": "\n  here: --channels first, --channels last",
    "size=": "\n  here: --size N",
    "drop=": "\n  here: --drop COLUMN,COLUMN",
    "task=": "\n  here: --task classes",
}
OVERWRITE = ("pass overwrite=True", "\n  here: --overwrite")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (of the process by default); the result is the exit code."""
    # 0 when it did what was asked, 1 for a refusal, an error or an inexact result, 2 for wrong usage, 130 for Ctrl-C.
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Not every encoding has all names of files, and signs such as the one for "not equal".
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parser = _parser()
        arguments, others = parser.parse_known_args(argv)
        if others:
            parser.error(f"unrecognized arguments: {' '.join(others)}; see maxaffine {arguments.command} --help")
        with warnings.catch_warnings():
            warnings.showwarning = _tell
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
        print(f"maxaffine: {error}{_options(error)}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"maxaffine: {error}; check the name, the permissions and the free space", file=sys.stderr)
        return FAILED


def _tell(message: Warning | str, category: type[Warning], *place: object) -> None:
    """Print a warning as a line of ours, without the line of code that gave it."""
    print(f"maxaffine: {message}", file=sys.stderr)


def _options(error: MaxAffineError) -> str:
    """The options of a command for what an error calls by the names of arguments."""
    if isinstance(error, NotPiecewiseAffine):
        return REFUSAL_OPTIONS
    if OVERWRITE[0] in str(error):
        return OVERWRITE[1]
    named = (option for name, option in LOAD_OPTIONS.items() if isinstance(error, DataError) and name in str(error))
    return next(named, "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maxaffine",
        description="The exact spline form of piecewise-affine networks.",
        allow_abbrev=False,
        epilog="maxaffine COMMAND --help shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"maxaffine {version('maxaffine')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
