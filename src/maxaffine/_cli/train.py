"""``maxaffine train``: weights for a classifier, also with orthogonal templates, or for a network that gives values."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from maxaffine import _learning as learning
from maxaffine import _models as models
from maxaffine.errors import BadInput

from .arguments import DONE, INTERRUPTED, add_command, answer, not_negative, path, positive
from .loading import default_epochs, model_for, read_data, require_trainable

EXAMPLES = """examples:
  maxaffine train                                               a cnn on scikit-learn's digits
  maxaffine train resnet fashion-mnist --epochs 5 -o resnet.safetensors
  maxaffine train cnn images/ --size 32 --orthogonal 1          with nearly orthogonal templates
  maxaffine train mlp houses.csv --target price                 of values, R2 is printed
  maxaffine train my_package.nets:make mine.npz --state-dict first.pt --epochs 3 --checkpoints epochs/

The weights are the best so far at any time: Ctrl-C ends the training and keeps them.
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    option = add_command(commands, "train", run, "train a network and keep its weights", EXAMPLES, captures=False)
    option("-o --out", "file of the weights: .safetensors, .pt or .pth", path, Path("weights.safetensors"))
    option("--checkpoints", "keep the weights of every epoch here", path, metavar="DIR")
    option("--batch-size", "inputs per step", positive, 128)
    option("--lr", "largest step size", not_negative, 2e-3, "X")
    does = "weight of the penalty for templates that are not orthogonal (default: %(default)s, none)"
    option("--orthogonal", does, not_negative, 0.0, "X")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    data_set = read_data(arguments)
    require_trainable(arguments, data_set)
    model = model_for(arguments, data_set)
    folder = _folder(arguments.checkpoints)
    done = models.train(
        model,
        data_set.train,
        epochs=default_epochs(len(data_set.train)) if arguments.epochs is None else arguments.epochs,
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        seed=arguments.seed,
        checkpoint=arguments.out,
        after_epoch=lambda epoch: (
            None if folder is None else models.save_weights(model, folder / f"epoch-{epoch.number:03d}.safetensors")
        ),
        penalty=learning.OrthogonalTemplates(arguments.orthogonal) if arguments.orthogonal else None,
    )
    try:
        score = (models.accuracy if data_set.train.targets is None else models.r2)(model, data_set.test)
    except KeyboardInterrupt:
        print(f"maxaffine: interrupted; the weights are in {done.checkpoint}", file=sys.stderr)
        return INTERRUPTED
    name, words = "accuracy", f"test accuracy {score:.2%}"
    if data_set.train.targets is not None:
        name, words = "r2", f"test R2 {score:.4f}"
    # The record of an epoch has one field for both.
    history = [{key.replace("accuracy", name): value for key, value in asdict(epoch).items()} for epoch in done.history]
    found = {
        "weights": str(done.checkpoint),
        "interrupted": done.interrupted,
        "best_epoch": done.best_epoch,
        f"test_{name}": score,
        "history": history,
    }
    answer(arguments, found, f"{words}\nweights: {done.checkpoint}")
    return INTERRUPTED if done.interrupted else DONE


def _folder(folder: Path | None) -> Path | None:
    """The folder of the weights of every epoch, which is made where it is not there."""
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"--checkpoints: {folder} is not a folder and cannot be made one ({error.strerror})"
            ) from error
    return folder
