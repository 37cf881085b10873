"""``maxaffine neighbors``: which training inputs a network treats like a test input, at every depth."""

import argparse
import sys

from maxaffine import _report as report

from .arguments import DONE, add_command, natural, positive, progress, say
from .loading import subject_and_folder

EXAMPLES = """examples:
  maxaffine neighbors                                           six digits, and what a cnn takes for the same
  maxaffine neighbors cnn fashion-mnist --query 3 17 --operators 2 10 --count 8
  maxaffine neighbors my_package.nets:make images/ --size 32 --state-dict weights.safetensors
  maxaffine neighbors --audit --json                            near-duplicates and label-error candidates, too
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "find the training inputs that a network treats like some test inputs"
    option = add_command(commands, "neighbors", run, does, EXAMPLES, out="maxaffine-neighbors")
    option("--query", "numbers of test inputs (default: evenly spaced ones)", natural, metavar="I", nargs="+")
    option("--images", "how many test inputs, where none is named", positive, 6)
    option("--count", "nearest training inputs of each", positive, 6, "K")
    does = "where to compare (default: at most six, evenly spaced; see maxaffine operators)"
    option("--operators", does, metavar="NAME", nargs="+")
    option("--train-limit", "training inputs to search (default: all)", positive)
    option("--audit", "look also for near-duplicates and label errors among the training inputs", action="store_true")


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
