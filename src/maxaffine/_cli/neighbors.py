"""``maxaffine neighbors``: which training inputs a network treats like a test input, at every depth."""

from __future__ import annotations

import argparse

from maxaffine import _report as report
from maxaffine._data import DataSet

from .arguments import add_command, add_epochs, natural, place, positive
from .printing import DONE, progress, say
from .subject import read_data, trained_model

EXAMPLES = """examples:
  maxaffine neighbors                                           six digits, and what a cnn takes for the same
  maxaffine neighbors cnn fashion-mnist --query 3 17 --operators 2 10 --count 8
  maxaffine neighbors my_package.nets:make images/ --size 32 --state-dict weights.safetensors
  maxaffine neighbors --audit --json                            near-duplicates and label-error candidates, too
"""
DOES = "find the training inputs that a network treats like some test inputs"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command.

    Args:
        commands: Where it is added.
    """
    command = add_command(commands, "neighbors", run, DOES, EXAMPLES)
    add_epochs(command)
    option = command.add_argument
    does = "folder to write (default: %(default)s)"
    option("-o", "--out", type=place, default="maxaffine-neighbors", metavar="DIR", help=does)
    option("--query", type=natural, nargs="+", metavar="I", help="numbers of test inputs (default: evenly spaced ones)")
    does = "how many test inputs, where none is named (default: %(default)s)"
    option("--images", type=positive, default=6, metavar="N", help=does)
    does = "nearest training inputs of each (default: %(default)s)"
    option("--count", type=positive, default=6, metavar="K", help=does)
    does = "where to compare (default: at most six, evenly spaced; see maxaffine operators)"
    option("--operators", nargs="+", metavar="NAME", help=does)
    option("--train-limit", type=positive, metavar="N", help="training inputs to search (default: all)")
    does = "look also for near-duplicates and label errors among the training inputs"
    option("--audit", action="store_true", help=does)


def run(arguments: argparse.Namespace) -> int:
    """Write the picture grids and print the table.

    Args:
        arguments: The parsed options.

    Returns:
        The exit code.
    """
    report.require()
    out = arguments.out
    with report.staged(out, arguments.state_dict) as folder:
        data_set = read_data(arguments)
        say(arguments, f"{data_set.name}: {len(data_set.train)} training and {len(data_set.test)} test inputs")
        model, weights = trained_model(arguments, data_set, folder / report.WEIGHTS)
        progress("encoding and searching ...")
        names = (arguments.model, weights)
        found = report.look_up(model, data_set, _choices(arguments, data_set), arguments.query, arguments.audit, names)
        say(arguments, report.lookup_text(found))
        progress("drawing ...")
        report.write_lookup(found, folder)
    if arguments.json:
        print((out / report.RESULTS).read_text(encoding="utf-8"))
    else:
        print(f"pictures: {out / report.FIGURES}")
    return DONE


def _choices(arguments: argparse.Namespace, data_set: DataSet) -> report.Choices:
    return report.Choices(
        images=arguments.images,
        neighbors=arguments.count,
        train_limit=arguments.train_limit or len(data_set.train),
        output=arguments.output,
        until=arguments.until,
        operators=None if arguments.operators is None else tuple(arguments.operators),
    )
