"""``maxaffine encode``: the codes of a data set into a store."""

import argparse
import sys
from functools import partial

import torch
from torch import Tensor

from maxaffine import _data as data
from maxaffine import _search as search
from maxaffine._capture import SplineNetwork

from .arguments import DONE, INTERRUPTED, add_command, answer, natural, positive
from .loading import capture_model, data_options, first_model, units_of

EXAMPLES = """examples:
  maxaffine encode cnn digits --state-dict weights.safetensors --store digits.lance
  maxaffine encode my_package.nets:make images/ --size 224 --state-dict weights.pt --store codes.lance
  maxaffine encode cnn fashion-mnist --part test --first-id 60000 --state-dict weights.pt --store codes.lance
  maxaffine encode net.py:make /mnt/images --engine ray --address auto --workers 64 --store s3://bucket/codes.lance

A run that was killed goes on where it was when the same command is given again.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "write the codes of a data set into a store"
    option = add_command(commands, "encode", run, does, EXAMPLES, trains=False)
    option("--store", "folder or address (s3://...), made if it is not there", metavar="PATH", required=True)
    option("--part", "of the data set", None, "train", choices=("train", "test"))
    option("--operators", "names of those to store (default: all; see maxaffine operators)", metavar="A,B")
    option("--batch-size", "inputs at once", positive, 256)
    option("--first-id", "id of the first input", natural, 0)
    option("--threads", "of each worker", positive, 1)
    does = "here in this process, or ray on several, also of other machines"
    option("--engine", does, None, "here", choices=("here", "ray"))
    option("--workers", "of the engine ray", positive, 2)
    option("--address", "of a Ray cluster, e.g. auto; a local Ray is started otherwise", metavar="ADDRESS")


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
    found = {"store": store.path, "encoded": done.rows, "skipped": done.skipped, "fingerprint": store.fingerprint}
    found |= {"rows": len(store), "operators": list(store.operators)}
    answer(arguments, found, f"encoded {done.rows} inputs, {done.skipped} were there: {store}")
    return DONE


def _network(arguments: argparse.Namespace, example: Tensor, outputs: int, units: data.Split | None) -> SplineNetwork:
    """The network, made anew wherever it is needed: in each worker from the same options."""
    return capture_model(arguments, first_model(arguments, example, outputs, units), example)
