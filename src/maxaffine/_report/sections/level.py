"""Where a network of three inputs decides, or takes a value: the exact surface, over the box of the test inputs."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition import Surface, surface
from maxaffine._report.facts import LeftOut
from maxaffine._report.subject import Meaning, Subject
from maxaffine.errors import BadInput, MaxAffineError

# Numbers that may be computed for all polygons; and how many of these are drawn.
WORK, MOST, FEWEST = 3e9, 20_000, 200
SMALLER = 0.7  # a box that has too many polygons shrinks by this, and is tried again so often
TRIES = 8


@dataclass(frozen=True, eq=False)
class LevelSet:
    """The surface on which an output has a level, or a class draws level with the others."""

    surface: Surface
    name: str  # of the output, or the class that it is the border of
    rival: str  # the class that draws level with it; "" where there are several, or the output is a value
    reason: str  # why this level, of a value; "" of classes
    share: float  # side of the box, relative to that of the test inputs
    low: tuple[float, ...]  # corner of the box
    high: tuple[float, ...]
    # How far the untouched module is off the level at the vertices, relative to its largest output at test inputs.
    error: float | None


def level_set_of(subject: Subject) -> LevelSet | LeftOut | None:
    """The decision boundary or the level set of the first value; None of a network of other inputs than three."""
    net = subject.net
    if prod(subject.data.input_shape) != 3 or len(subject.units) > 1 or not net.piecewise_affine:
        return None
    if len(net.graph.outputs) > 1:
        return None
    corners = subject.test.double().flatten(1).cpu()
    low, high = corners.amin(0).numpy(), corners.amax(0).numpy()
    if not (low < high).all():
        return LeftOut("The test inputs do not differ in one of the three numbers, so they span no box.")
    reason = "There is no surface to show."
    for option in _options(subject):
        try:
            return _found(subject, low, high, *option)
        except BadInput as error:
            reason = f"There is no surface to show: {str(error).splitlines()[0]}."
        except MaxAffineError as error:
            return LeftOut(f"The surface cannot be found exactly: {str(error).splitlines()[0]}.")
    return LeftOut(reason)


Option = tuple[float, int, int | str | None, str, str, str]  # level, output, against, and name, rival, reason


def _options(subject: Subject) -> Iterator[Option]:
    """What may be shown, the most telling first."""
    own = _outputs(subject, subject.test)
    names, count = subject.names, own.shape[1]
    if subject.meaning in (Meaning.SIGN, Meaning.SIDE):
        yield 0.0, 0, None, subject.answer_name(1), subject.answer_name(0), ""
    elif not subject.meaning.valued and count == 2:
        yield 0.0, 1, 0, subject.answer_name(1), subject.answer_name(0), ""
    elif not subject.meaning.valued:
        answers = torch.bincount(own.argmax(1), minlength=count)
        for number in answers.argsort(descending=True, stable=True).tolist():
            yield 0.0, number, "others", subject.answer_name(number), "", ""
    else:
        targets = subject.data.train.targets
        yield 0.0, 0, None, names[0], "", "a level that it takes here"
        if targets is not None and targets.shape[1] == count:
            mean = float(targets[:, 0].double().mean())
            yield mean, 0, None, names[0], "", "the mean of its training targets, since it is nowhere 0 here"
        middle = float(own[:, 0].median())
        yield middle, 0, None, names[0], "", "its median over the test inputs, since it is nowhere 0 here"


def _found(
    subject: Subject,
    low: np.ndarray,
    high: np.ndarray,
    level: float,
    output: int,
    against: int | str | None,
    name: str,
    rival: str,
    reason: str,
) -> LevelSet:
    """The surface in the largest box that has few enough polygons."""
    most, middle, share = max(FEWEST, subject.affordable(WORK, MOST)), (low + high) / 2, 1.0
    for _ in range(TRIES):
        box = middle - share * (high - low) / 2, middle + share * (high - low) / 2
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "max_faces ended", UserWarning)
            # After Ctrl-C a surface warns and returns what it has.
            warnings.filterwarnings("error", "an interrupt ended", UserWarning)
            try:
                found = surface(subject.net, level, output, against=against, bounds=box, max_faces=most, progress=False)
            except UserWarning as stopped:
                raise KeyboardInterrupt from stopped
        if found.complete:
            break
        share *= SMALLER
    else:
        raise MaxAffineError(f"even a small box has more than {most} polygons")
    corner, other = (tuple(side.tolist()) for side in box)
    return LevelSet(found, name, rival, reason, share, corner, other, _error(subject, found))


def _error(subject: Subject, found: Surface) -> float | None:
    """How far the untouched module is off the level at the vertices, in its own precision."""
    if subject.untouched is None:
        return None
    x = subject.like(found.inputs(found.vertices))
    own = _outputs(subject, x)
    return float(found.margin(own).abs().max() / _outputs(subject, subject.test).abs().max().clamp(min=1e-300))


def _outputs(subject: Subject, x: Tensor) -> Tensor:
    """The module's own outputs (N, K)."""
    return torch.cat([subject.own(part) for part in x.split(subject.at_once)]).double().cpu()
