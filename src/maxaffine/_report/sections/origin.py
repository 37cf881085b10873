"""What the network is made of, and whether its spline form is exact."""

from __future__ import annotations

import copy
import platform
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import Tensor

from maxaffine._capture import capture
from maxaffine._network import verify
from maxaffine._report.facts import Check, Choices, Origin
from maxaffine._report.reference import Reference
from maxaffine._report.sections.subject import Subject, spaced
from maxaffine.errors import MaxAffineError

# Numbers that may be computed for a check: some seconds.
WORK = 2e8


def origin_of(subject: Subject, name: str, weights: str, fresh: bool) -> Origin:
    """Say where a network and its data come from.

    Args:
        subject: The network and the data.
        name: What to call the network.
        weights: One sentence on where its weights come from.
        fresh: Whether they were drawn here, so that it has seen nothing but training inputs.

    Returns:
        The record.
    """
    data = subject.data
    return Origin(
        model=name,
        weights=weights,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        data=data.name,
        train_size=len(data.train),
        test_size=len(data.test),
        input_shape=data.input_shape,
        class_names=data.class_names,
        versions={"maxaffine": version("maxaffine"), "torch": torch.__version__, "Python": platform.python_version()},
        doubtful_test=data.set_aside and not fresh,
    )


def checks_of(subject: Subject, chosen: Sequence[int], choices: Choices) -> tuple[Check, ...]:
    """Check the spline form against the untouched module, in the module's own dtype and in float64.

    Args:
        subject: The network.
        chosen: Numbers of the test inputs that are explained; they are checked in any case.
        choices: How many others are.

    Returns:
        One check per dtype. One that finds more than rounding says so; nothing is raised.
    """
    model, reference = subject.model, Reference(subject.model, choices.until)
    own = verify(subject.net, reference, _probes(subject, choices.checked, chosen), raises=False)
    if own.dtype == torch.float64:
        return (Check("float64", own),)
    inputs = _probes(subject, choices.checked_double, chosen).double()
    first = Check(str(own.dtype).removeprefix("torch."), own)
    try:
        with warnings.catch_warnings():
            # Copying an exported program makes torch warn of its own code.
            warnings.simplefilter("ignore", FutureWarning)
            double = copy.deepcopy(model).double()
        net = capture(double, inputs[:2], until=choices.until, output=choices.output)
        return first, Check("float64", verify(net, Reference(double, choices.until), inputs, raises=False))
    except (MaxAffineError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        # Some modules cannot be copied, or keep a dtype of their own; the page then says so.
        reason = (str(error).splitlines() or [""])[0]
        return first, Check("float64", None, f"it cannot run in float64 ({type(error).__name__}: {reason})")


def _probes(subject: Subject, count: int, chosen: Sequence[int]) -> Tensor:
    """The inputs to check: some spread over the data, and those that the page explains."""
    count = subject.affordable(WORK, count)
    spread = spaced(len(subject.test), count) if count else torch.zeros(0, dtype=torch.int64)
    return subject.test[torch.cat([spread, torch.tensor(chosen, dtype=torch.int64)]).unique()]
