"""``maxaffine report``: train or load a network, and explain it on one page."""

import argparse
import json

from maxaffine import _report as report

from .arguments import DONE, FAILED, add_command, answer, natural, positive, progress, say
from .loading import subject_and_folder

EXAMPLES = """examples:
  maxaffine report                                          a cnn on scikit-learn's digits, in a minute
  maxaffine report resnet fashion-mnist --epochs 5 -o resnet
  maxaffine report mlp images/ --size 32                    a folder of images by class
  maxaffine report my_package.nets:make digits --state-dict weights.safetensors --output pre_activation
  maxaffine report my_package.nets:make images/ --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  maxaffine report mlp houses.csv --target price            a table: its last column is predicted by default
  maxaffine report exported.pt2 signals.npz --channels first -o pages/signals --json

DIR gets report.html, the page, and figures/, every figure as PNG and SVG with its numbers as JSON.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "explain a network on one self-contained page"
    option = add_command(commands, "report", run, does, EXAMPLES, out="maxaffine-report")
    option("--images", "test inputs to explain", positive, 6)
    option("--neighbors", "nearest training inputs to show", positive, 6, "K")
    option("--train-limit", "training inputs to search", positive, 5000)
    option("--output-index", "which output, of a dict or tuple", natural, 0, "I")


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
    answer(arguments, {"page": str(page)} | json.loads(report.as_json(contents)), f"report: {page}")
    return DONE if contents.exact else FAILED
