"""What a command is about: the data set, the model with its weights, and the captured network, from the options."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine import _report as report
from maxaffine._capture import SplineNetwork, capture
from maxaffine.errors import BadInput

# Epochs are chosen so that training sees about this many examples, within limits.
EXAMPLES = 50_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 40


def read_data(arguments: argparse.Namespace) -> data.DataSet:
    """The data set that the options name.

    Args:
        arguments: The parsed options.

    Returns:
        Its training and test inputs with their labels.
    """
    return data.load(
        arguments.data,
        labels=arguments.labels,
        size=arguments.size,
        channels=arguments.channels,
        class_names=arguments.class_names,
        seed=arguments.seed,
    )


def first_model(arguments: argparse.Namespace, input_shape: Sequence[int], classes: int) -> nn.Module:
    """The model with the weights it has at first: its file's, its factory's, or drawn from the seed.

    Args:
        arguments: The parsed options.
        input_shape: Shape of one input.
        classes: Outputs of one of our own networks.

    Returns:
        The model, after the normalization that the options ask for.

    Raises:
        BadInput: If that has another number of channels, or the model is an exported archive.
    """
    if arguments.mean is None and arguments.std is None:
        return _load(arguments, input_shape, classes)
    if arguments.model.endswith(".pt2"):
        instead = "export models.Normalized(model, mean, std) in its place"
        raise BadInput(f"--mean, --std: they do not apply to an exported archive; {instead}")
    mean, std = arguments.mean or (0.0,), arguments.std or (1.0,)
    for name, given in (("mean", mean), ("std", std)):
        if len(given) not in (1, input_shape[0]):
            raise BadInput(f"--{name}: {len(given)} numbers, but {input_shape[0]} channels; give one, or one for each")
    return models.Normalized(_load(arguments, input_shape, classes), mean, std)


def _load(arguments: argparse.Namespace, input_shape: Sequence[int], classes: int) -> nn.Module:
    if not _ours(arguments):
        return models.load_model(arguments.model, arguments.state_dict)
    if arguments.state_dict is None:
        return models.build(arguments.model, input_shape, classes, seed=arguments.seed).eval()
    factory = f"maxaffine._models:{arguments.model.replace('-', '_')}"
    return models.load_model(factory, arguments.state_dict, input_shape=input_shape, classes=classes)


def trained_model(arguments: argparse.Namespace, data_set: data.DataSet, checkpoint: Path) -> tuple[nn.Module, str]:
    """The model, trained where that is asked for or where it is one of ours without weights.

    Args:
        arguments: The parsed options, ``epochs`` among them.
        data_set: What it is trained on.
        checkpoint: File that keeps the weights while and after it is trained.

    Returns:
        The model, and one sentence on where its weights come from.

    Raises:
        KeyboardInterrupt: If the training was interrupted.
    """
    model = first_model(arguments, data_set.input_shape, data_set.classes)
    fresh = is_fresh(arguments)
    epochs = asked_epochs(arguments, data_set)
    if epochs == 0:
        drawn = f"drawn at random with seed {arguments.seed}, not trained" if fresh else "as the model was loaded"
        return model, f"read from {arguments.state_dict.name}" if arguments.state_dict else drawn
    start = time.perf_counter()
    result = models.train(model, data_set.train, epochs=epochs, seed=arguments.seed, checkpoint=checkpoint)
    if result.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    passes = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return model, f"trained here: {passes} with seed {arguments.seed} in {seconds:.1f} s (kept in {checkpoint.name})"


def asked_epochs(arguments: argparse.Namespace, data_set: data.DataSet) -> int:
    """Passes of training that the options ask for.

    Args:
        arguments: The parsed options, ``epochs`` among them.
        data_set: What it would be trained on.

    Returns:
        How many; 0 where no number is given, except for one of our own networks without weights.

    Raises:
        BadInput: If a network that takes normalized inputs is to be trained.
    """
    epochs = arguments.epochs
    if epochs is None:
        epochs = default_epochs(len(data_set.train)) if is_fresh(arguments) else 0
    if epochs:
        require_trainable(arguments, data_set)
    if epochs and (arguments.mean or arguments.std):
        raise BadInput("--mean, --std: they do not apply to a network that is trained here; leave them out")
    return epochs


def require_trainable(arguments: argparse.Namespace, data_set: data.DataSet) -> None:
    """Check, before any work is spent, that there is something to train, and something to train it on.

    Args:
        arguments: The parsed options.
        data_set: What it would be trained on.

    Raises:
        BadInput: If the model is an exported archive, or the data has no labels, or one label throughout.
    """
    if arguments.model.endswith(".pt2"):
        raise BadInput("--model: an exported archive cannot be trained; give a factory, or no --epochs")
    if lacking := data.without_classes(data_set.class_names):
        raise BadInput(
            f"data: {lacking.replace('the data', data_set.name)}, so there is nothing to train on; pass --labels of two"
            " classes or more, or --epochs 0 and a model with weights"
        )


def captured(
    arguments: argparse.Namespace, model: nn.Module, example: Tensor, labels: int | None = None
) -> SplineNetwork:
    """The spline form of the model as far as the options ask for it.

    Args:
        arguments: The parsed options.
        model: The model.
        example: At least two inputs; they are brought to its dtype and device.
        labels: Number of classes of the data, from which what the network answers is inferred where no option says it.

    Returns:
        The captured network.
    """
    net = capture(model, report.like_model(example, model), until=arguments.until, output=arguments.output)
    return net if labels is None else net.settled(labels, arguments.task, arguments.output_index)


def is_fresh(arguments: argparse.Namespace) -> bool:
    """Whether the model is one of ours with weights drawn here, so that it has seen no data but what it is given.

    Args:
        arguments: The parsed options.

    Returns:
        Whether it is.
    """
    return _ours(arguments) and arguments.state_dict is None


def _ours(arguments: argparse.Namespace) -> bool:
    """Whether the model is one of ours, or a mistyped name of one: no module:factory and no file."""
    return ":" not in arguments.model and not Path(arguments.model).suffix


def default_epochs(examples: int) -> int:
    """Passes over training data of some size, where the options name no number.

    Args:
        examples: The size.

    Returns:
        As many as show the network some 50,000 examples, within limits.
    """
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(EXAMPLES / examples)))
