"""A report on a network in one call: captured, collected and written."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork
from maxaffine._data import DataSet, Split, split_by_class
from maxaffine._drawing import html_table
from maxaffine._report.collect import assemble
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Choices
from maxaffine._report.files import FIGURES, PAGE, RESULTS, new_folder, require_packages, write
from maxaffine._report.results import as_text
from maxaffine._report.subject import find_subject
from maxaffine.errors import BadInput

TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """A report on disk: ``contents``, everything that it says, and the ``folder`` where it is."""

    contents: Contents
    folder: Path

    @property
    def exact(self) -> bool:
        """Whether no check found more than rounding."""
        return self.contents.exact

    @property
    def page(self) -> Path:
        """The page, which needs no other file."""
        return self.folder / PAGE

    @property
    def results(self) -> Path:
        """All numbers, as JSON."""
        return self.folder / RESULTS

    @property
    def figures(self) -> Path:
        """The folder of the figures, each as PNG and SVG with its numbers as JSON."""
        return self.folder / FIGURES

    def __repr__(self) -> str:
        return f"{as_text(self.contents)}\nreport: {self.page}"

    def _repr_html_(self) -> str:
        lines = [line.partition(": ") for line in repr(self).splitlines()]
        return html_table([("", self.contents.origin.data), *((name, words) for name, _, words in lines)])


def report(
    model: nn.Module | SplineNetwork,
    data: Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    name: str | None = None,
    weights: str = "as the model was given",
    fresh: bool = False,
    seed: int = 0,
    images: int = 6,
    neighbors: int = 6,
    train_limit: int = 5000,
    output: str = "as_is",
    until: str | None = None,
    output_index: int = 0,
    task: str | None = None,
    smooth: str = "refuse",
) -> Report:
    """Explain a network on one self-contained page, and write it to a folder with its figures and numbers.

    It is what ``maxaffine report`` writes: seven questions, from what the network is made of and whether its spline
    form is exact to what to try next.

    Args:
        model: A piecewise-affine module in evaluation mode, from inputs (N, *input_shape), or its captured network.
        data: A data set; or inputs (N, *input_shape) as a pair with whole labels (N,), which are classes, or floats
            (N,) or (N, K), which are values to be predicted; or inputs alone, for a network that is no classifier. Of
            the last two a fifth (of each class) is set aside as test inputs.
        path: The folder to write; it appears once all is in it.
        overwrite: Whether a folder that is there is replaced, with all that it holds.
        name: What to call the network; by default as its class is called.
        weights: One sentence on where its weights come from.
        fresh: Whether they were drawn and trained on ``data.train`` alone, so that the test inputs are new to it.
        seed: Of what is set aside.
        images: Number of test inputs to explain.
        neighbors: Number of nearest training inputs shown per operator.
        train_limit: At most this many training inputs are encoded and searched.
        output: ``"as_is"``, or ``"pre_activation"`` to stop before a final softmax, sigmoid or tanh, or the name of
            one of several outputs.
        until: Module to stop after; None for the output.
        output_index: Which output, of a model with several.
        task: What it answers (``"classes"``, ``"value"``, ``"values"``, ``"field"``); inferred where it is not given.
        smooth: What becomes of smooth operators, as of `capture`: ``"refuse"``, ``"frozen"`` or ``"tangent"``.

    Returns:
        What the report says and where it is. Whether it is exact is in ``exact``; nothing is raised for that.

    Raises:
        BadInput: When the folder is not empty, a choice is impossible for this model, or the data is no such pair.
        DataError: When inputs and labels do not fit.
        NotPiecewiseAffine: When the model has no exact spline form.
        MaxAffineError: When a package is absent, or the file system refuses.

    Example:
        >>> import tempfile
        >>> from maxaffine._report import report
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
        >>> x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = report(model, (x, (x[:, 0] > 0).long()), f"{folder}/page", images=1)
        ...     found.exact, sorted(item.name for item in found.folder.iterdir())
        (True, ['figures', 'report.html', 'results.json'])
    """
    require_packages()
    name = type(model).__name__ if name is None else name
    choices = Choices(
        images=images,
        neighbors=neighbors,
        train_limit=train_limit,
        output=output,
        until=until,
        output_index=output_index,
        task=task,
        smooth=smooth,
    )
    with new_folder(path, overwrite) as folder:
        contents = assemble(find_subject(model, _data_set(data, seed), choices, name, weights, fresh=fresh))
        write(contents, folder)
    return Report(contents, Path(os.path.realpath(path)))


def _data_set(data: Any, seed: int) -> DataSet:
    """What was given as a data set: a fifth of arrays is set aside as test inputs."""
    if isinstance(data, DataSet):
        return data
    inputs, labels = data if isinstance(data, tuple | list) and len(data) == 2 else (data, None)
    x = _tensor(inputs)
    if not x.is_floating_point():
        raise BadInput(f"data: its inputs are {x.dtype}; give floating-point numbers, as the model takes them")
    if labels is None:
        y, class_names = torch.zeros(len(x), dtype=torch.int64), ("unlabeled",)
    else:
        y = _tensor(labels)
        if y.is_floating_point():
            targets = y.float().flatten(1) if y.ndim > 1 else y.float().reshape(-1, 1)
            whole = Split(x.float(), torch.zeros(len(x), dtype=torch.int64), targets)
            return split_by_class("the data", whole, ("unlabeled",), TEST_FRACTION, seed)
        class_names = tuple(map(str, range(int(y.max()) + 1))) if y.numel() else ()
    return split_by_class("the data", Split(x.float(), y.long()), class_names, TEST_FRACTION, seed)


def _tensor(given: Any) -> Tensor:
    try:
        return torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"data: expected a DataSet, inputs and labels, or inputs alone ({error})") from error
