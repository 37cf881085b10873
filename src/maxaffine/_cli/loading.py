"""What the options name: the data set, the model with its weights, trained or not, and its captured network."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine import _data as data
from maxaffine import _models as models
from maxaffine import _report as report
from maxaffine._capture import SplineNetwork, capture
from maxaffine.errors import BadInput

from .arguments import progress, say

# Epochs are chosen so that training sees about this many examples, within limits.
EXAMPLES = 50_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 40
COMPARED = 64  # inputs on which a file of a model is compared with what it comes from


def data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the data that the options name is read."""
    names = ("labels", "size", "channels", "class_names", "target", "drop", "task", "seed")
    return {name: getattr(arguments, name) for name in names}


def read_data(arguments: argparse.Namespace) -> data.DataSet:
    """The data set that the options name; its sizes are said."""
    found = data.load(arguments.data, **data_options(arguments))
    say(arguments, f"{found.name}: {len(found.train)} training and {len(found.test)} test inputs")
    if found.feature_names:
        how = "" if arguments.target else " (the last column; --target names another)"
        what = "values" if found.train.targets is not None else f"{found.classes} classes (--task value: as numbers)"
        say(arguments, f"target: {', '.join(found.target_names)}{how}, {what}; {len(found.feature_names)} features")
    return found


def first_model(
    arguments: argparse.Namespace, example: Tensor, outputs: int, units: data.Split | None = None
) -> nn.Module:
    """The model for inputs such as these, with the weights it has at first: its file's, its factory's, or drawn."""
    input_shape = example.shape[1:]
    if arguments.mean is None and arguments.std is None:
        return _load(arguments, example, outputs, units)
    if arguments.model.endswith(".pt2"):
        instead = "export models.Normalized(model, mean, std) in its place"
        raise BadInput(f"--mean, --std: they do not apply to an exported archive; {instead}")
    mean, std = arguments.mean or (0.0,), arguments.std or (1.0,)
    for name, given in (("mean", mean), ("std", std)):
        if len(given) not in (1, input_shape[0]):
            raise BadInput(f"--{name}: {len(given)} numbers, but {input_shape[0]} channels; give one, or one for each")
    sizes = (-1, *[1] * (example.ndim - 2))
    normal = (example - torch.tensor(mean).reshape(sizes)) / torch.tensor(std).reshape(sizes)
    return models.Normalized(_load(arguments, normal, outputs, units), mean, std)


def model_for(arguments: argparse.Namespace, data_set: data.DataSet) -> nn.Module:
    """The model for the inputs of a data set, a few of which a file of one is compared on."""
    examples, units = data_set.test.inputs[:COMPARED], units_of(arguments, data_set.train)
    return first_model(arguments, examples, data_set.outputs, units)


def units_of(arguments: argparse.Namespace, part: object) -> data.Split | None:
    """The data by which one of our networks standardizes: where it has units of its own, as tables and values have."""
    if isinstance(part, data.Split) and (part.targets is not None or data.is_table(Path(arguments.data))):
        return part
    return None


def _load(arguments: argparse.Namespace, example: Tensor, outputs: int, units: data.Split | None) -> nn.Module:
    if arguments.model.endswith(".onnx"):
        # On zeros, where a shape alone is given, nothing would differ.
        inputs = example if example.any() else torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
        return models.load_model(arguments.model, arguments.state_dict, inputs=inputs)
    input_shape = example.shape[1:]
    if not _ours(arguments):
        return models.load_model(arguments.model, arguments.state_dict)
    name, seed = arguments.model, arguments.seed
    if units is not None:
        if arguments.state_dict is None:
            return models.standardized(name, units, outputs, seed).eval()
        options = {"name": name, "part": units, "outputs": outputs}
        return models.load_model("maxaffine._models:standardized", arguments.state_dict, **options)
    if arguments.state_dict is None:
        return models.build(name, input_shape, outputs, seed=seed).eval()
    factory = f"maxaffine._models:{name.replace('-', '_')}"
    return models.load_model(factory, arguments.state_dict, input_shape=input_shape, classes=outputs)


def trained_model(arguments: argparse.Namespace, data_set: data.DataSet, checkpoint: Path) -> tuple[nn.Module, str]:
    """The model, trained where that is asked for or where it is one of ours without weights, and what to say of it."""
    model = model_for(arguments, data_set)
    fresh = is_fresh(arguments)
    epochs = epochs_to_train(arguments, data_set)
    if epochs == 0:
        drawn = f"drawn at random with seed {arguments.seed}, not trained" if fresh else "as the model was loaded"
        loaded = getattr(model, "agreement", drawn)  # of an ONNX file: how well it agrees with onnxruntime
        return model, f"read from {arguments.state_dict.name}" if arguments.state_dict else loaded
    start = time.perf_counter()
    result = models.train(model, data_set.train, epochs=epochs, seed=arguments.seed, checkpoint=checkpoint)
    if result.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - start
    passes = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return model, f"trained here: {passes} with seed {arguments.seed} in {seconds:.1f} s (kept in {checkpoint.name})"


def epochs_to_train(arguments: argparse.Namespace, data_set: data.DataSet) -> int:
    """Passes of training that the options ask for."""
    epochs = arguments.epochs
    if epochs is None:
        epochs = default_epochs(len(data_set.train)) if is_fresh(arguments) else 0
    if epochs:
        require_trainable(arguments, data_set)
    if epochs and (arguments.mean or arguments.std):
        raise BadInput("--mean, --std: they do not apply to a network that is trained here; leave them out")
    return epochs


def require_trainable(arguments: argparse.Namespace, data_set: data.DataSet) -> None:
    """Check, before any work is spent, that there is something to train, and something to train it on."""
    if arguments.model.endswith(models.EXPORTED):
        raise BadInput("--model: an exported model cannot be trained; give a factory, or no --epochs")
    if data_set.train.targets is None and (lacking := data.without_classes(data_set.class_names)):
        raise BadInput(
            f"data: {lacking.replace('the data', data_set.name)}, so there is nothing to train on; pass --labels of two"
            " classes or more, or --epochs 0 and a model with weights"
        )


def capture_model(arguments: argparse.Namespace, model: nn.Module, example: Tensor) -> SplineNetwork:
    """The spline form of the model as far as the options ask for it; of an ONNX file its agreement is said."""
    if agreement := getattr(model, "agreement", ""):
        say(arguments, f"{_name(arguments)}: {agreement}")
    example = report.like_model(example, model)
    return capture(model, example, until=arguments.until, output=arguments.output, smooth=arguments.smooth)


@contextmanager
def subject_and_folder(arguments: argparse.Namespace, **choices: Any) -> Iterator[tuple[report.Subject, Path]]:
    """The model that the options name, trained and captured, beside its data, and where to write about it."""
    report.require_packages()
    # Trained weights are kept beside what is written; weights that are read from the folder to be replaced stay in it.
    with report.new_folder(arguments.out, arguments.overwrite, arguments.state_dict) as folder:
        data_set = read_data(arguments)
        model, weights = trained_model(arguments, data_set, folder / report.WEIGHTS)
        progress("capturing ...")
        chosen = report.Choices(output=arguments.output, until=arguments.until, smooth=arguments.smooth, **choices)
        yield report.find_subject(model, data_set, chosen, _name(arguments), weights, fresh=is_fresh(arguments)), folder


def subject_of(
    arguments: argparse.Namespace, model: nn.Module, data_set: data.DataSet, *, fresh: bool = False
) -> report.Subject:
    """The captured network beside the data, with what it answers settled."""
    # The captured network alone, since the module may go on training.
    net = capture_model(arguments, model, data_set.test.inputs[:2])
    choices = report.Choices(output_index=arguments.output_index, task=arguments.task)
    return report.find_subject(net, data_set, choices, _name(arguments), fresh=fresh)


def _name(arguments: argparse.Namespace) -> str:
    """What to call the model: of a file, without its folder."""
    return arguments.model.replace("\\", "/").rsplit("/", 1)[-1]


def is_fresh(arguments: argparse.Namespace) -> bool:
    """Whether the model is one of ours with weights drawn here, so that it has seen no data but what it is given."""
    return _ours(arguments) and arguments.state_dict is None


def _ours(arguments: argparse.Namespace) -> bool:
    """Whether the model is one of ours, or a mistyped name of one: no module:factory and no file."""
    return ":" not in arguments.model and not Path(arguments.model).suffix


def default_epochs(examples: int) -> int:
    """Passes over training data of some size, where the options name no number."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(EXAMPLES / examples)))
