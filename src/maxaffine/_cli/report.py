"""``maxaffine report``: train or load a network, and explain it on one page."""

from __future__ import annotations

import argparse
import json

from maxaffine import _report as report

from .arguments import add_command, add_epochs, add_task, natural, place, positive
from .printing import DONE, FAILED, progress, say
from .subject import is_fresh, read_data, trained_model

EXAMPLES = """examples:
  maxaffine report                                          a cnn on scikit-learn's digits, in a minute
  maxaffine report resnet fashion-mnist --epochs 5 -o resnet.html
  maxaffine report mlp images/ --size 32                    a folder of images by class
  maxaffine report my_package.nets:make digits --state-dict weights.safetensors --output pre_activation
  maxaffine report my_package.nets:make images/ --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  maxaffine report my_package.nets:regressor rows.npz --task value
  maxaffine report exported.pt2 signals.npz --channels first -o pages/signals.html --json

Beside PAGE.html the folder PAGE_files has every figure as PNG and SVG, and its numbers as JSON.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command.

    Args:
        commands: Where it is added.
    """
    command = add_command(commands, "report", run, "explain a network on one self-contained page", EXAMPLES)
    add_epochs(command)
    add_task(command)
    option = command.add_argument
    does = "page to write, or a folder that gets report.html (default: %(default)s)"
    option("-o", "--out", type=place, default="maxaffine-report.html", metavar="PAGE", help=does)
    option("--images", type=positive, default=6, metavar="N", help="test inputs to explain (default: %(default)s)")
    does = "nearest training inputs to show (default: %(default)s)"
    option("--neighbors", type=positive, default=6, metavar="K", help=does)
    does = "training inputs to search (default: %(default)s)"
    option("--train-limit", type=positive, default=5000, metavar="N", help=does)
    does = "which output, of a dict or tuple (default: %(default)s)"
    option("--output-index", type=natural, default=0, metavar="I", help=does)


def run(arguments: argparse.Namespace) -> int:
    """Write the page.

    Args:
        arguments: The parsed options.

    Returns:
        The exit code: a failure where the spline form is not exact.
    """
    report.require()
    out = report.page_of(arguments.out)
    with report.staged_page(out, arguments.state_dict) as page:
        data_set = read_data(arguments)
        say(arguments, f"{data_set.name}: {len(data_set.train)} training and {len(data_set.test)} test inputs")
        model, weights = trained_model(arguments, data_set, report.files_of(page) / report.WEIGHTS)
        progress("capturing, verifying and explaining ...")
        contents = report.assemble(
            model, data_set, _choices(arguments), arguments.model, weights, fresh=is_fresh(arguments)
        )
        say(arguments, report.as_text(contents))
        progress("drawing ...")
        report.write(contents, page)
    if arguments.json:
        print(json.dumps({"page": str(out)} | json.loads(report.as_json(contents)), indent=1))
    else:
        print(f"report: {out}")
    return DONE if contents.exact else FAILED


def _choices(arguments: argparse.Namespace) -> report.Choices:
    return report.Choices(
        images=arguments.images,
        neighbors=arguments.neighbors,
        train_limit=arguments.train_limit,
        output=arguments.output,
        until=arguments.until,
        output_index=arguments.output_index,
        task=arguments.task,
    )
