"""``maxaffine report``: train or load a network, and explain it on one page."""

from __future__ import annotations

import argparse
import json

from maxaffine import _report as report

from .arguments import add_command, add_epochs, add_out, natural, positive
from .loading import subject_and_folder
from .printing import DONE, FAILED, progress, say

EXAMPLES = """examples:
  maxaffine report                                          a cnn on scikit-learn's digits, in a minute
  maxaffine report resnet fashion-mnist --epochs 5 -o resnet
  maxaffine report mlp images/ --size 32                    a folder of images by class
  maxaffine report my_package.nets:make digits --state-dict weights.safetensors --output pre_activation
  maxaffine report my_package.nets:make images/ --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  maxaffine report my_package.nets:regressor rows.npz --task value
  maxaffine report exported.pt2 signals.npz --channels first -o pages/signals --json

DIR gets report.html, the page, and figures/, every figure as PNG and SVG with its numbers as JSON.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    command = add_command(commands, "report", run, "explain a network on one self-contained page", EXAMPLES)
    add_epochs(command)
    option = command.add_argument
    add_out(command, "maxaffine-report")
    option("--images", type=positive, default=6, metavar="N", help="test inputs to explain (default: %(default)s)")
    does = "nearest training inputs to show (default: %(default)s)"
    option("--neighbors", type=positive, default=6, metavar="K", help=does)
    does = "training inputs to search (default: %(default)s)"
    option("--train-limit", type=positive, default=5000, metavar="N", help=does)
    does = "which output, of a dict or tuple (default: %(default)s)"
    option("--output-index", type=natural, default=0, metavar="I", help=does)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    chosen = ("images", "neighbors", "train_limit", "output_index", "task")
    with subject_and_folder(arguments, **{name: getattr(arguments, name) for name in chosen}) as (subject, folder):
        progress("verifying and explaining ...")
        contents = report.assemble(subject)
        say(arguments, report.as_text(contents))
        progress("drawing ...")
        report.write(contents, folder)
    page = arguments.out / report.PAGE
    if arguments.json:
        print(json.dumps({"page": str(page)} | json.loads(report.as_json(contents)), indent=1))
    else:
        print(f"report: {page}")
    return DONE if contents.exact else FAILED
