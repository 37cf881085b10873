"""``maxaffine explore``: a page on this machine on which a network is asked about pictures, at once and exactly."""

import argparse
import json
import os
import sys
import webbrowser
from pathlib import Path

from maxaffine import _data as data
from maxaffine import _explore as explore
from maxaffine import _models as models
from maxaffine import _report as report
from maxaffine.errors import BadInput

from .arguments import DONE, add_command, natural, path, positive, progress, say
from .loading import epochs_to_train, is_fresh, model_for, read_data, subject_of

EXAMPLES = """examples:
  maxaffine explore                                             a cnn on scikit-learn's digits, epoch by epoch
  maxaffine explore resnet fashion-mnist --state-dict resnet.safetensors
  maxaffine explore my_package.nets:make images/ --size 32 --state-dict weights.pt
  maxaffine explore cnn digits --checkpoints epochs/            the weights of maxaffine train --checkpoints epochs/
  maxaffine explore cnn digits --checkpoints first.pt last.pt

It answers on 127.0.0.1 alone, and only by the address that it prints. Ctrl-C ends it; it writes no files.
"""
# Moments of a training that are kept: before it, after these epochs, and after the last.
KEPT_EPOCHS = (1, 2, 3, 5, 8, 12, 20, 30)
# Seconds that work in the background has to end in.
PATIENCE = 3.0


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "ask a network about pictures and planes, live in a browser"
    option = add_command(commands, "explore", run, does, EXAMPLES)
    does = "weights at several moments, in this order; of a folder all files of weights, by name"
    option("--checkpoints", does, path, nargs="+")
    option("--port", "where to listen (default: a free one)", natural, 0)
    option("--open", "open it in the browser", action="store_true")
    option("--train-limit", "training inputs to search for neighbors", positive, explore.TRAIN_LIMIT)
    option("--output-index", "which output, of a dict or tuple (default: the only one)", natural, metavar="I")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    explore.require()
    files = _files(arguments)
    data_set = read_data(arguments)
    moments = _read(arguments, data_set, files) if files else _train(arguments, data_set)
    explorer = explore.Explorer(moments, arguments.train_limit)
    warning = f"{explorer.order.finding} {explorer.order.cure}" if explorer.order else ""
    if warning:
        say(arguments, warning)
    explorer.near.begin(len(moments) - 1)

    def ready(address: str) -> None:
        if arguments.json:
            print(json.dumps({"address": address} | ({"warning": warning} if warning else {})), flush=True)
        say(arguments, f"explorer: {address}\nCtrl-C ends it.")
        if arguments.open:
            webbrowser.open(address)

    explore.serve(explorer, arguments.port, ready)
    # Work in the background ends at its next step, which may be far.
    if not explorer.close(PATIENCE):
        # A thread that is in the middle of PyTorch when Python shuts down aborts the process.
        sys.stdout.flush()
        os._exit(DONE)
    return DONE


def _files(arguments: argparse.Namespace) -> list[Path]:
    """The files of weights that are asked for, checked before any work is spent."""
    if arguments.checkpoints is None:
        return []
    if arguments.state_dict is not None or arguments.epochs is not None:
        raise BadInput("--checkpoints: they hold the weights; leave --state-dict and --epochs out")
    if arguments.model.endswith(models.EXPORTED):
        raise BadInput("--checkpoints: an exported model holds its own weights; give a factory in its place")
    files: list[Path] = []
    for given in arguments.checkpoints:
        found = [given]
        if given.is_dir():
            found = sorted(item for item in given.iterdir() if item.suffix in models.SUFFIXES)
        if not found:
            raise BadInput(f"--checkpoints: {given} holds no files that end in {', '.join(models.SUFFIXES)}")
        files += found
    if absent := [file for file in files if not file.is_file()]:
        raise BadInput(f"--checkpoints: there is no file {absent[0]}")
    return files


def _read(arguments: argparse.Namespace, data_set: data.DataSet, files: list[Path]) -> dict[str, report.Subject]:
    """The network at the moments of these files, by their names, or by their paths where two have one name."""
    moments = {}
    for file in files:
        progress(f"capturing {file.name} ...")
        arguments.state_dict = file
        model = model_for(arguments, data_set)
        moments[str(file) if file.stem in moments else file.stem] = subject_of(arguments, model, data_set)
    return moments


def _train(arguments: argparse.Namespace, data_set: data.DataSet) -> dict[str, report.Subject]:
    """The model; where it is trained here, at several moments of its training."""
    model = model_for(arguments, data_set)
    epochs = epochs_to_train(arguments, data_set)
    moments: dict[str, report.Subject] = {}

    def keep(name: str) -> None:
        # Weights from here have learned the labels of this data, or nothing.
        moments[name] = subject_of(arguments, model, data_set, fresh=is_fresh(arguments))

    def keep_epoch(epoch: models.Epoch) -> None:
        if epoch.number in KEPT_EPOCHS and epoch.number < epochs:
            model.eval()
            keep(f"epoch {epoch.number}")
            model.train()

    keep("before training" if epochs else "as it is")
    if epochs:
        result = models.train(model, data_set.train, epochs=epochs, seed=arguments.seed, after_epoch=keep_epoch)
        if result.interrupted:
            raise KeyboardInterrupt
        say(arguments, f"trained here: {epochs} epochs with seed {arguments.seed}; nothing is written")
        keep(f"best (epoch {result.best_epoch})")
    return moments
