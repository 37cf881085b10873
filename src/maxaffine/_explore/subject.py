"""What is explored: one network at one or several moments, and the data it is asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._data import DataSet
from maxaffine._drawing import kind_of
from maxaffine._network import Task
from maxaffine._report import LabelOrder, label_order
from maxaffine.errors import BadInput

# Numbers that may be computed to answer test inputs before the page is there, some seconds; and how many inputs are
# asked at least, and at once.
WORK, FEWEST, BATCH = 1e9, 32, 64


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network at one moment.

    Attributes:
        name: What to call it, e.g. ``"epoch-003"``.
        net: The captured network.
    """

    name: str
    net: SplineNetwork

    def like(self, inputs: Tensor) -> Tensor:
        """Inputs (N, *input_shape) in the dtype and on the device of the network."""
        return inputs.to(self.net.inputs.device, self.net.inputs.dtypes[0])


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and its data.

    Attributes:
        model: What to call the network.
        data: The data set.
        checkpoints: The network at one or several moments, in order.
        output: Which output, for a network with several.
        fresh: Whether the weights were drawn or trained here, on this data: then outputs and labels have one order.

    Raises:
        BadInput: When the data or the network cannot be shown.
    """

    model: str
    data: DataSet
    checkpoints: tuple[Checkpoint, ...]
    output: int | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        """Check that there is something to show, before anything is computed."""
        kind_of(self.data.input_shape)
        if not self.checkpoints:
            raise BadInput("checkpoints: none is given; give at least one network")
        for checkpoint in self.checkpoints:
            self._check(checkpoint)
        # What the network answers is settled here, by the labels too, for everything that asks about it.
        settled = (replace(one, net=one.net.settled(self.data.classes)) for one in self.checkpoints)
        object.__setattr__(self, "checkpoints", tuple(settled))

    @property
    def task(self) -> Task:
        """What the network answers."""
        return self.checkpoints[0].net.task(self.output)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every output."""
        count = self._outputs(self.checkpoints[0].net)[0]
        if self.classifies and count > 1:
            return self.data.class_names
        kind = "output" if self.task is Task.CLASSES else "value"
        return tuple(f"{kind} {number}" for number in range(count)) if count > 1 else (f"the {kind}",)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class that the network can choose, of a single output for both its signs; none of values."""
        if self.task is not Task.CLASSES:
            return ()
        if len(self.names) > 1:
            return self.names
        return self.data.class_names if self.classifies else ("at most 0", "above 0")

    @property
    def labeled(self) -> bool:
        """Whether the data say which class each input has; numbers beside inputs that give a single value do not."""
        single = self.task is not Task.CLASSES and len(self.names) == 1
        return self.data.classes > 1 and not single

    @cached_property
    def classifies(self) -> bool:
        """Whether the outputs give classes of the data: only then can an answer agree with a label."""
        count = self._outputs(self.checkpoints[0].net)[0]
        return self.task is Task.CLASSES and self.data.classes == max(2, count)

    @cached_property
    def order(self) -> LabelOrder | None:
        """An order of the labels in which the last network answers far more test inputs correctly; None without one.

        Evenly spaced test inputs are asked, as many as take some seconds.
        """
        if self.fresh or not self.classifies:
            return None
        last, test = self.checkpoints[-1], self.data.test
        work = sum(prod(record.units) for record in last.net.operators) + prod(self.data.input_shape)
        count = max(FEWEST, min(len(test), int(WORK // work)))
        asked = torch.linspace(0, len(test) - 1, min(count, len(test)), dtype=torch.float64).round().long()
        target = last.net.graph.part([last.net.target(None, self.output)])
        with torch.no_grad():
            values = [
                target.run(last.net.inputs.tensors(last.like(test.inputs[rows])))[0].cpu()
                for rows in asked.split(BATCH)
            ]
        own, single = torch.cat(values), len(self.names) == 1
        answers = (own[:, 0] > 0).long() if single else own.argmax(1)
        called = ("an output of at most 0", "an output above 0") if single else None
        return label_order(answers, test.labels[asked], self.data.class_names, called)

    def _outputs(self, net: SplineNetwork) -> tuple[int, ...]:
        return net.graph.values[net.target(None, self.output)].units

    def _check(self, checkpoint: Checkpoint) -> None:
        net = checkpoint.net
        if len(net.inputs.names) != 1 or net.inputs.batch_dims != (0,):
            raise BadInput(f"{checkpoint.name}: the explorer shows networks of one input whose first axis is the batch")
        if net.inputs.units[0] != self.data.input_shape:
            raise BadInput(
                f"{checkpoint.name}: takes inputs of shape {net.inputs.units[0]}, but those of {self.data.name} have"
                f" {self.data.input_shape}"
            )
        units = self._outputs(net)
        if len(units) != 1 or units != self._outputs(self.checkpoints[0].net):
            raise BadInput(
                f"{checkpoint.name}: gives {units} for each input, but the explorer shows vectors of outputs, as many"
                " at every checkpoint; stop after a layer that gives one with --until, or choose an output"
            )
