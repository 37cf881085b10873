"""``maxaffine operators``: what a network is made of, and what capture knows."""

from __future__ import annotations

import argparse
import json

import torch

from maxaffine import _data as data
from maxaffine._capture import all_rules
from maxaffine._drawing import text_table

from .arguments import add_command, positive, shape
from .loading import capture_model, data_options, examples_of, first_model, units_of
from .printing import DONE

EXAMPLES = """examples:
  maxaffine operators                                           the cnn for digits
  maxaffine operators torchvision.models:resnet18 --input-shape 3,224,224
  maxaffine operators exported.pt2 mine.npz --json
  maxaffine operators --rules                                   every operator that capture knows
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    command = add_command(commands, "operators", run, "list the operators of a network", EXAMPLES)
    option = command.add_argument
    option("--rules", action="store_true", help="list instead every operator that capture has a rule for")
    option("--input-shape", type=shape, metavar="C,H,W", help="shape of one input, in place of a data set's")
    does = "outputs of one of our networks, with --input-shape"
    option("--classes", type=positive, default=10, metavar="C", help=does)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    if arguments.rules:
        return _rules(arguments)
    if arguments.input_shape is None:
        data_set = data.load(arguments.data, **data_options(arguments))
        example, outputs, units = examples_of(data_set), data_set.outputs, units_of(arguments, data_set.train)
    else:
        example, outputs, units = torch.zeros(2, *arguments.input_shape), arguments.classes, None
    net = capture_model(arguments, first_model(arguments, example, outputs, units), example[:2])
    if arguments.json:
        fields = ("name", "kind", "pieces", "units", "convex", "continuous", "module_path")
        records = [{field: getattr(record, field) for field in fields} for record in net.operators]
        print(json.dumps({"convex": net.convex, "operators": records}, indent=1))
    else:
        print(net)
    return DONE


def _rules(arguments: argparse.Namespace) -> int:
    rows = sorted({(str(target), rule.build.__module__.rpartition(".")[2]) for target, rule in all_rules().items()})
    if arguments.json:
        print(json.dumps([{"operator": operator, "rule": family} for operator, family in rows], indent=1))
    else:
        print(text_table(rows))
    return DONE
