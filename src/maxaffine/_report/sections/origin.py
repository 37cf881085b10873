"""What the network is made of, and whether its spline form is exact."""

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
from maxaffine._report.subject import Reference, Subject, spread_evenly
from maxaffine.errors import MaxAffineError

# Numbers that may be computed for a check: some seconds.
WORK = 2e8


def origin_of(subject: Subject) -> Origin:
    """Say where a network and its data come from."""
    data = subject.data
    return Origin(
        model=subject.name,
        weights=subject.weights,
        parameters=None if subject.model is None else sum(item.numel() for item in subject.model.parameters()),
        data=data.name,
        train_size=len(data.train),
        test_size=len(data.test),
        input_shape=data.input_shape,
        class_names=data.class_names,
        versions={"maxaffine": version("maxaffine"), "torch": torch.__version__, "Python": platform.python_version()},
        doubtful_test=data.set_aside and not subject.fresh,
        feature_names=data.feature_names,
        target_names=() if data.train.targets is None else data.target_names or ("the target",) * data.outputs,
        rate=data.rate,
    )


def checks_of(subject: Subject, chosen: Sequence[int], choices: Choices) -> tuple[Check, ...]:
    """One check against the untouched module per dtype, its own and float64; nothing is raised."""
    model = subject.model
    if model is None:
        dtype = str(subject.net.inputs.dtypes[0]).removeprefix("torch.")
        return (Check(dtype, None, "the captured network was given without the module that it was captured from"),)
    # To the end of the module: where capture left a final softmax off, verify applies it to the network's output.
    own = verify(subject.net, Reference(model, choices.until), _probes(subject, choices.checked, chosen), raises=False)
    if own.dtype == torch.float64:
        return (Check("float64", own),)
    inputs = _probes(subject, choices.checked_double, chosen).double()
    first = Check(str(own.dtype).removeprefix("torch."), own)
    try:
        with warnings.catch_warnings():
            # Copying an exported program makes torch warn of its own code.
            warnings.simplefilter("ignore", FutureWarning)
            double = copy.deepcopy(model).double()
        # Captured anew: what float32 rounds off in the frozen weights and offsets would otherwise stay.
        net = capture(double, inputs[:2], until=choices.until, output=choices.output, smooth=choices.smooth)
        return first, Check("float64", verify(net, Reference(double, choices.until), inputs, raises=False))
    except (MaxAffineError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        # Some modules cannot be copied, or keep a dtype of their own; the page then says so.
        reason = (str(error).splitlines() or [""])[0]
        return first, Check("float64", None, f"it cannot run in float64 ({type(error).__name__}: {reason})")


def _probes(subject: Subject, count: int, chosen: Sequence[int]) -> Tensor:
    """The inputs to check: some spread over the data, and those that the page explains."""
    count = subject.affordable(WORK, count)
    spread = spread_evenly(len(subject.test), count) if count else torch.zeros(0, dtype=torch.int64)
    return subject.test[torch.cat([spread, torch.tensor(chosen, dtype=torch.int64)]).unique()]
