"""``maxaffine partition``: every region of a network on a plane: through three inputs, or of its only two numbers."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxaffine import _data as data
from maxaffine import _report as report
from maxaffine._drawing import png
from maxaffine._partition import PlanePartition, plane
from maxaffine.errors import BadInput

from .arguments import DONE, FAILED, INTERRUPTED, add_command, answer, natural, numbers, progress, say
from .loading import subject_and_folder

EXAMPLES = """examples:
  maxaffine partition                                           the cnn for digits, through three test digits
  maxaffine partition mlp fashion-mnist --epochs 2 --anchors 0,1,2
  maxaffine partition my_package.nets:make digits --state-dict weights.safetensors --extent=-1,2,-1,2
  maxaffine partition my_package.nets:field points.npz --extent 1       two numbers in: the plane of all inputs
"""
FIGURE = "plane.png"
MOST_DRAWN = 200_000
ALL_CHECKED = 50_000
MARGIN = 0.25


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "divide a plane of inputs into the network's regions, exactly"
    option = add_command(commands, "partition", run, does, EXAMPLES, out="maxaffine-partition")
    does = (
        "test inputs that span the plane (default: the first three of different classes; of a network that takes two"
        " numbers, no anchors: the plane of all inputs)"
    )
    option("--anchors", does, three, metavar="I,J,K")
    option("--origin", "in place of anchors, one input, all its numbers", numbers, metavar="X,...")
    option("--basis", "and two directions, the numbers of one, then of the other", numbers, metavar="X,...")
    does = "further inputs that are known to lie in the plane, the numbers of one after the other"
    option("--points", does, numbers, metavar="X,...")
    does = (
        "what to partition, r for -r,r,-r,r: distances from the first anchor towards the second, or multiples of the"
        " directions (default: around the anchors, or the test inputs where the plane is all inputs; else -1,1,-1,1)"
    )
    option("--extent", does, rectangle, metavar="LEFT,RIGHT,BOTTOM,TOP")
    option("--output-index", "which output, of a dict or tuple (default: the only one)", natural, metavar="I")


def run(arguments: argparse.Namespace) -> int:
    """Partition the plane, check it against the network, write figure, page and arrays."""
    out, chosen = arguments.out, {"output_index": arguments.output_index, "task": arguments.task}
    with subject_and_folder(arguments, **chosen) as (subject, folder):
        say(arguments, f"{subject.name}: {subject.weights}")
        where = _plane(arguments, subject.data)
        progress("partitioning ...")
        given: dict[str, Any] = {n: subject.like(x) if isinstance(x, torch.Tensor) else x for n, x in where.items()}
        found = plane(subject.net, **given, output=subject.output)
        say(arguments, str(found))
        checked = found.verify(subject.untouched, every_cell=found.regions <= ALL_CHECKED, raises=False)
        say(arguments, f"check against the network: {checked}")
        progress("drawing ...")
        files = _write(found, folder, subject)
    facts = {"task": found.task.value, "exact": checked.exact, "complete": found.complete}
    facts = {"files": [str(out / name) for name in files]} | report.plain(found) | facts
    answer(arguments, facts, "\n".join(f"wrote {out / name}" for name in files))
    return INTERRUPTED if not found.complete else DONE if checked.exact else FAILED


def _plane(arguments: argparse.Namespace, data_set: data.DataSet) -> dict[str, Any]:
    """The arguments of `maxaffine.partition.plane` that say which plane, and what of it."""
    shape, size = data_set.input_shape, math.prod(data_set.input_shape)
    origin, basis, points = arguments.origin, arguments.basis, arguments.points
    where: dict[str, Any] = {"extent": arguments.extent}
    if points is not None:
        if len(points) % size:
            raise BadInput(f"--points: {len(points)} numbers, but each input of shape {shape} has {size}")
        where["points"] = torch.tensor(points, dtype=torch.float64).view(-1, *shape)
    if origin is None and basis is None:
        if arguments.anchors is None and size == 2:
            return {**where, "extent": arguments.extent or report.around(data_set.test.inputs.flatten(1), MARGIN)}
        chosen = arguments.anchors or _different(data_set)
        if max(chosen) >= (count := len(data_set.test)):
            raise BadInput(f"--anchors: there are {count} test inputs, numbered from 0")
        return {**where, "anchors": data_set.test.inputs[list(chosen)]}
    if arguments.anchors is not None or origin is None or basis is None:
        raise BadInput("--origin: give it together with --basis, and without --anchors")
    for name, given, count in (("origin", origin, 1), ("basis", basis, 2)):
        if len(given) != count * size:
            raise BadInput(
                f"--{name}: {len(given)} numbers, but {count} x {size} are needed for inputs of shape {shape}"
            )
    where["origin"] = torch.tensor(origin, dtype=torch.float64).view(1, *shape)
    where["basis"] = torch.tensor(basis, dtype=torch.float64).view(2, *shape)
    return where


def three(text: str) -> tuple[int, int, int]:
    """Read three different whole numbers."""
    places = tuple(natural(word) for word in text.split(","))
    if len(set(places)) != 3 or len(places) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} does not name three different inputs; give e.g. 0,1,2")
    return places[0], places[1], places[2]


def rectangle(text: str) -> tuple[float, ...]:
    """Read the sides of a rectangle."""
    sides = numbers(text)
    if len(sides) not in (1, 4):
        raise argparse.ArgumentTypeError(f"{text!r} is neither left,right,bottom,top nor one number")
    return sides if len(sides) == 4 else (-sides[0], sides[0], -sides[0], sides[0])


def _different(data_set: data.DataSet) -> tuple[int, ...]:
    """The first three test inputs of different classes."""
    # Of equal keys the last one stays, which in reverse is the first of its class.
    labels = data_set.test.labels.tolist()
    first = {label: place for place, label in reversed(list(enumerate(labels)))}
    chosen = sorted(first.values())[:3]
    return tuple(chosen) if len(chosen) == 3 else (0, 1, 2)


def _write(found: PlanePartition, folder: Path, subject: report.Subject) -> list[str]:
    names = subject.data.class_names if subject.classifies else subject.names if subject.meaning.valued else None
    np.savez_compressed(folder / report.ARRAYS, allow_pickle=False, **found.to_numpy())
    files = [report.ARRAYS]
    if found.regions <= MOST_DRAWN:
        (folder / report.FIGURES).mkdir()
        (folder / report.FIGURES / FIGURE).write_bytes(png(report.plane_figure(found, names)))
        files.append(f"{report.FIGURES}/{FIGURE}")
    if found.regions <= report.MOST_CELLS:
        (folder / report.PAGE).write_text(report.plane_page(found, names), encoding="utf-8")
        files.append(report.PAGE)
    return files
