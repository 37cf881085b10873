"""``maxaffine neighbors``: which training inputs a network treats like a test input, at every depth."""

from __future__ import annotations

import argparse
import sys

from maxaffine import _report as report

from .arguments import add_command, add_epochs, add_out, natural, positive
from .loading import subject_and_folder
from .printing import DONE, progress, say

EXAMPLES = """examples:
  maxaffine neighbors                                           six digits, and what a cnn takes for the same
  maxaffine neighbors cnn fashion-mnist --query 3 17 --operators 2 10 --count 8
  maxaffine neighbors my_package.nets:make images/ --size 32 --state-dict weights.safetensors
  maxaffine neighbors --audit --json                            near-duplicates and label-error candidates, too
"""
DOES = "find the training inputs that a network treats like some test inputs"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    command = add_command(commands, "neighbors", run, DOES, EXAMPLES)
    add_epochs(command)
    option = command.add_argument
    add_out(command, "maxaffine-neighbors")
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
    """Write the page and print the table."""
    chosen = {
        "images": arguments.images,
        "neighbors": arguments.count,
        "train_limit": arguments.train_limit or sys.maxsize,
        "task": arguments.task,
        "operators": None if arguments.operators is None else tuple(arguments.operators),
    }
    with subject_and_folder(arguments, **chosen) as (subject, folder):
        progress("encoding and searching ...")
        found = report.look_up(subject, arguments.query, arguments.audit)
        say(arguments, report.lookup_text(found))
        progress("drawing ...")
        report.write(found, folder)
    if arguments.json:
        print((arguments.out / report.RESULTS).read_text(encoding="utf-8"))
    else:
        print(f"neighbors: {arguments.out / report.PAGE}")
    return DONE
