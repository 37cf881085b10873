"""``maxaffine encode``: the codes of a data set into a store."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

import torch
from torch import Tensor

from maxaffine import _data as data
from maxaffine import _search as search
from maxaffine._capture import SplineNetwork

from .arguments import add_command, natural, positive
from .loading import capture_model, data_options, first_model, units_of
from .printing import DONE, INTERRUPTED, say

EXAMPLES = """examples:
  maxaffine encode cnn digits --state-dict weights.safetensors --store digits.lance
  maxaffine encode my_package.nets:make images/ --size 224 --state-dict weights.pt --store codes.lance
  maxaffine encode cnn fashion-mnist --part test --first-id 60000 --state-dict weights.pt --store codes.lance
  maxaffine encode net.py:make /mnt/images --engine ray --address auto --workers 64 --store s3://bucket/codes.lance

A run that was killed goes on where it was when the same command is given again.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    command = add_command(commands, "encode", run, "write the codes of a data set into a store", EXAMPLES)
    option = command.add_argument
    option("--store", required=True, metavar="PATH", help="folder or address (s3://...), made if it is not there")
    option("--part", choices=("train", "test"), default="train", help="of the data set (default: %(default)s)")
    option("--operators", metavar="A,B", help="names of those to store (default: all; see maxaffine operators)")
    option("--batch-size", type=positive, default=256, metavar="N", help="inputs at once (default: %(default)s)")
    option("--first-id", type=natural, default=0, metavar="N", help="id of the first input (default: %(default)s)")
    option("--threads", type=positive, default=1, metavar="N", help="of each worker (default: %(default)s)")
    does = "here in this process, or ray on several, also of other machines (default: %(default)s)"
    option("--engine", choices=("here", "ray"), default="here", help=does)
    option("--workers", type=positive, default=2, metavar="N", help="of the engine ray (default: %(default)s)")
    option("--address", metavar="ADDRESS", help="of a Ray cluster, e.g. auto; a local Ray is started otherwise")


def run(arguments: argparse.Namespace) -> int:
    """Encode."""
    inputs, class_names = data.load_part(arguments.data, arguments.part, **data_options(arguments))
    example, units = inputs.take(slice(0, 2)).inputs, units_of(arguments, inputs)
    make = partial(_network, arguments, example, len(class_names), units)
    net = make()
    # A store is made like the network whose codes it holds, or like codes of some of its operators.
    like = net
    if arguments.operators:
        example = torch.zeros(1, *net.inputs.units[0], dtype=net.inputs.dtypes[0], device=net.inputs.device)
        like = net.codes(example, arguments.operators.split(","))
    store = search.CodeStore.create(arguments.store, like, exist_ok=True)
    sizes = {"batch_size": arguments.batch_size, "first_id": arguments.first_id, "threads": arguments.threads}
    try:
        if arguments.engine == "here":
            done = search.encode(net, inputs, store, **sizes)
        else:
            workers, address = arguments.workers, arguments.address
            done = search.encode_with_ray(make, inputs, store, workers=workers, address=address, **sizes)
    except KeyboardInterrupt:
        text = f"maxaffine: interrupted; {len(store)} rows are in {store.path}, and the same command goes on from there"
        print(text, file=sys.stderr)
        return INTERRUPTED
    if arguments.json:
        found = {"store": store.path, "encoded": done.rows, "skipped": done.skipped, "fingerprint": store.fingerprint}
        print(json.dumps(found | {"rows": len(store), "operators": list(store.operators)}, indent=1))
    say(arguments, f"encoded {done.rows} inputs, {done.skipped} were there: {store}")
    return DONE


def _network(arguments: argparse.Namespace, example: Tensor, outputs: int, units: data.Split | None) -> SplineNetwork:
    """The network, made anew wherever it is needed: in each worker from the same options."""
    return capture_model(arguments, first_model(arguments, example, outputs, units), example)
