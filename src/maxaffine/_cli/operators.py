"""``maxaffine operators``: what a network is made of, and what capture knows."""

import argparse

import torch

from maxaffine import _data as data
from maxaffine._capture import all_rules
from maxaffine._drawing import text_table

from .arguments import DONE, add_command, answer, positive, shape
from .loading import capture_model, data_options, first_model, model_for

EXAMPLES = """examples:
  maxaffine operators                                           the cnn for digits
  maxaffine operators torchvision.models:resnet18 --input-shape 3,224,224
  maxaffine operators exported.pt2 mine.npz --json
  maxaffine operators --rules                                   every operator that capture knows
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    option = add_command(commands, "operators", run, "list the operators of a network", EXAMPLES, trains=False)
    option("--rules", "list instead every operator that capture has a rule for", action="store_true")
    option("--input-shape", "shape of one input, in place of a data set's", shape, metavar="C,H,W")
    option("--classes", "outputs of one of our networks, with --input-shape", positive, 10, "C")


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    if arguments.rules:
        return _rules(arguments)
    if arguments.input_shape is None:
        data_set = data.load(arguments.data, **data_options(arguments))
        model, example = model_for(arguments, data_set), data_set.test.inputs
    else:
        example = torch.zeros(2, *arguments.input_shape)
        model = first_model(arguments, example, arguments.classes)
    net = capture_model(arguments, model, example[:2])
    fields = ("name", "kind", "pieces", "units", "convex", "continuous", "module_path")
    records = [{field: getattr(record, field) for field in fields} for record in net.operators]
    answer(arguments, {"convex": net.convex, "operators": records}, str(net))
    return DONE


def _rules(arguments: argparse.Namespace) -> int:
    rows = sorted({(str(target), rule.build.__module__.rpartition(".")[2]) for target, rule in all_rules().items()})
    answer(arguments, [{"operator": operator, "rule": family} for operator, family in rows], text_table(rows))
    return DONE
