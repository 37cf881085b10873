"""What a page is about: one output of a captured network, the untouched module beside it, and the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from itertools import zip_longest
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from maxaffine._capture import SplineNetwork, capture
from maxaffine._data import DataSet, Split
from maxaffine._graph import OperatorRecord, Value
from maxaffine._network import Task, output_names
from maxaffine._progress import progress_bar
from maxaffine._report.facts import Choices
from maxaffine._report.labels import LabelOrder, label_order
from maxaffine._report.layout import short
from maxaffine.errors import BadInput

# About how many numbers the operators may hold at once.
HELD = 2**27
MOST_AT_ONCE = 256
SIDES = ("at most 0", "above 0")
FINAL = ("softmax", "log_softmax", "sigmoid", "tanh", "log_sigmoid", "logsigmoid")


class Meaning(Enum):
    """What the outputs stand for: the network's task, seen beside the classes of the data."""

    CLASSES = "one output per class of the data"
    SIGN = "a single output, of data with two classes: the second one where it is above 0"
    SCORES = "a row of outputs that compete, but are not the classes of the data"
    SIDE = "a single output that decides by being above 0 or not"
    VALUE = "a single value"
    VALUES = "values, none of which competes with another"
    FIELD = "a field: values at every point of the inputs' coordinates"

    @property
    def valued(self) -> bool:
        """Whether the outputs are values: then there are no classes to speak of."""
        return self in (Meaning.VALUE, Meaning.VALUES, Meaning.FIELD)


@dataclass(frozen=True, eq=False)
class Subject:
    """One output of a captured network, and the data that it is asked about."""

    net: SplineNetwork  # what it answers is settled
    output: int
    data: DataSet
    choices: Choices
    reference: Callable[[Tensor], Any]  # what the network must equal: the module, or itself where there is none
    model: nn.Module | None  # the user's; None where only the captured network is at hand
    name: str
    weights: str  # one sentence on where they come from
    # Whether these were drawn here and trained on `data.train` alone: then outputs and labels have one order, and the
    # test inputs are new to the network.
    fresh: bool

    @property
    def untouched(self) -> Callable[[Tensor], Any] | None:
        """What is not of our making, to compare with; None where only the captured network is at hand."""
        return None if self.model is None else self.reference

    @property
    def units(self) -> tuple[int, ...]:
        """Shape of the output for one input."""
        return self._value.units

    @cached_property
    def train(self) -> Tensor:
        """The training inputs, as the network takes them."""
        return self.like(self.data.train.inputs)

    @cached_property
    def test(self) -> Tensor:
        """The test inputs, likewise."""
        return self.like(self.data.test.inputs)

    def like(self, inputs: Tensor) -> Tensor:
        """Inputs (N, *input_shape) in the dtype and on the device of the network."""
        return inputs.to(self.net.inputs.device, self.net.inputs.dtypes[0])

    @property
    def labeled(self) -> bool:
        """Whether the data has classes to tell apart."""
        return self.data.classes > 1

    @cached_property
    def meaning(self) -> Meaning:
        """What the outputs stand for."""
        task = self.net.task(self.output)
        if task is not Task.CLASSES:
            return Meaning[task.name]
        if self.labeled and self.units == (self.data.classes,):
            return Meaning.CLASSES
        if prod(self.units) == 1:
            return Meaning.SIGN if self.data.classes == 2 else Meaning.SIDE
        return Meaning.SCORES

    @property
    def classifies(self) -> bool:
        """Whether the outputs give a class of the data."""
        return self.meaning in (Meaning.CLASSES, Meaning.SIGN)

    @property
    def competes(self) -> bool:
        """Whether the largest output is the answer."""
        return self.meaning in (Meaning.CLASSES, Meaning.SCORES)

    @cached_property
    def work(self) -> int:
        """How many numbers the operators compute for one input."""
        return sum(prod(record.units) for record in self.net.operators) + prod(self.data.input_shape)

    @property
    def at_once(self) -> int:
        """Inputs handled together."""
        return max(1, min(MOST_AT_ONCE, HELD // self.work))

    def affordable(self, budget: float, wanted: int) -> int:
        """How many of some wanted passes through the network stay within a budget of numbers computed."""
        # Numbers rather than seconds: the same report on a faster machine has the same contents.
        return int(min(wanted, budget // self.work))

    def targets_in_words(self, split: Split, index: int) -> str:
        """The targets of an input of the training or test part, with names where there are several; "" without."""
        if split.targets is None:
            return ""
        values = [short(value) for value in split.targets[index].tolist()]
        names = self.data.target_names if len(values) > 1 else ()
        return ", ".join(f"{name} {value}" for name, value in zip_longest(names, values, fillvalue="")).strip()

    def picture_of(self, x: Tensor) -> np.ndarray:
        """An input as it is drawn in small: of a table, how many standard deviations each column is from its mean."""
        if not self.data.feature_names:
            return as_array(x)
        mean, deviation = self._columns
        return (as_array(x) - mean) / deviation

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        columns = as_array(self.data.train.inputs)
        return columns.mean(0), np.where(np.ptp(columns, 0) > 0, columns.std(0), 1)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every output."""
        return tuple(self.unit_name(unit) for unit in range(prod(self.units)))

    @cached_property
    def answer_names(self) -> tuple[str, ...]:
        """A name for every answer that the network can give: two of a single output, none of values."""
        if self.meaning.valued:
            return ()
        return tuple(self.answer_name(answer) for answer in range(max(2, prod(self.units))))

    def unit_name(self, unit: int) -> str:
        """What to call an output, by its flat number: the class where it stands for one."""
        if self.meaning is Meaning.CLASSES:
            return self.data.class_names[unit]
        if self.meaning is Meaning.SIGN:
            return f"{self.data.class_names[1]} (against {self.data.class_names[0]})"
        data, count = self.data, prod(self.units)
        if self.meaning.valued and data.train.targets is not None and len(data.target_names) == count:
            return data.target_names[unit]
        kind = "value" if self.meaning.valued and len(self.units) < 2 else "output"
        if count == 1:
            return f"the {kind}"
        place = ", ".join(str(int(number)) for number in np.unravel_index(unit, self.units))
        return f"{kind} {place if len(self.units) == 1 else f'({place})'}"

    def answer_name(self, answer: int) -> str:
        """What to call an answer: the class, the output that is the largest, or the side of a single one."""
        if self.meaning is Meaning.SIDE:
            return SIDES[answer]
        return self.data.class_names[answer] if self.classifies else self.unit_name(answer)

    @torch.no_grad()
    def own(self, inputs: Tensor) -> Tensor:
        """The untouched module's output, (N, outputs)."""
        # A copy, since a module may write into its inputs; leaves are counted as capture counts the outputs.
        return self.front(tree_leaves(self.reference(inputs.clone()))[self.output])

    def front(self, values: Tensor) -> Tensor:
        """Values of the output with the batch in front, (N, outputs)."""
        axis = self._value.batch
        return values.flatten(1) if axis is None else axis.to_front(values).flatten(1)

    def answers(self, own: Tensor) -> Tensor:
        """The answer that the outputs give, (N,): the largest one, or the sign of a single one."""
        return (own[:, 0] > 0).long() if self.meaning in (Meaning.SIGN, Meaning.SIDE) else own.argmax(1)

    def ask(self, inputs: Tensor) -> Tensor:
        """The untouched module's answers to many inputs, (N,)."""
        batches = progress_bar(None, "test set", iterable=inputs.split(self.at_once), unit="batch")
        return torch.cat([self.answers(self.own(batch)) for batch in batches]).cpu()

    def order(self, answers: Tensor, asked: Tensor) -> LabelOrder | None:
        """An order of the labels in which far more of the asked test inputs are answered correctly, or None."""
        # A network trained here has learned the labels of this data.
        if self.fresh or not self.classifies:
            return None
        sides = ("an output of at most 0", "an output above 0") if self.meaning is Meaning.SIGN else None
        return label_order(answers, self.data.test.labels[asked], self.data.class_names, sides)

    @property
    def _value(self) -> Value:
        return self.net.graph.values[self.net.graph.outputs[self.output]]


def find_subject(
    model: nn.Module | SplineNetwork,
    data: DataSet,
    choices: Choices,
    name: str = "the network",
    weights: str = "as the model was given",
    *,
    fresh: bool = False,
) -> Subject:
    """Capture a model, unless it is captured already, and find the output that is looked at."""
    if isinstance(model, SplineNetwork):
        if choices.until is not None or choices.output != "as_is" or choices.smooth != "refuse":
            raise BadInput(
                "until, output, smooth: the network is captured already; capture it with them, or give the module"
            )
        net, module, reference = model, None, model
    else:
        example = like_model(data.test.inputs[:2], model)
        net = capture(model, example, until=choices.until, output=choices.output, smooth=choices.smooth)
        module = model
        reference = Reference(model, choices.until, choices.output)
    if len(net.inputs.names) != 1 or net.inputs.batch_dims != (0,):
        raise BadInput("model: pages are about networks of one input whose first axis is the batch; wrap it in one")
    if net.inputs.units[0] != data.input_shape:
        raise BadInput(
            f"model: takes inputs of shape {net.inputs.units[0]}, but those of {data.name} have {data.input_shape}"
        )
    count, chosen = len(net.graph.outputs), choices.output_index
    if chosen is None and count == 1:
        chosen = 0
    if chosen is None or not 0 <= chosen < count:
        raise BadInput(f"output_index: the model has {count} outputs; give a number from 0 to {count - 1}")
    value = net.graph.values[net.graph.outputs[chosen]]
    if value.batch is None or value.dtype is None or not value.dtype.is_floating_point:
        raise BadInput(f"output_index: output {chosen} is not a floating-point function of the input; choose another")
    # What it answers where that is not given, seen beside the classes of the data.
    net = net.with_labels(data.classes, choices.task, chosen)
    if net.task(chosen) is not Task.CLASSES and prod(value.units) == 1:
        data = _without_labels(data)
    return Subject(net, chosen, data, choices, reference, module, name, weights, fresh)


def _without_labels(data: DataSet) -> DataSet:
    """The data of a network that gives one value: whole numbers beside its inputs are targets, and not classes."""
    try:
        numbers = torch.tensor([[float(name)] for name in data.class_names])
    except ValueError:
        numbers = None
    # Names that are text are neither.
    parts = []
    for split in (data.train, data.test):
        targets = split.targets if split.targets is not None or numbers is None else numbers[split.labels]
        parts.append(replace(split, labels=torch.zeros_like(split.labels), targets=targets))
    return replace(data, train=parts[0], test=parts[1], class_names=("unlabeled",))


def like_model(inputs: Tensor, model: nn.Module) -> Tensor:
    """The inputs in the dtype and on the device of a model's parameters."""
    weight = next((item for item in model.parameters() if item.is_floating_point()), inputs)
    return inputs.to(weight.device, weight.dtype)


def spread_evenly(length: int, count: int) -> Tensor:
    """At most ``count`` numbers from 0 to length - 1, evenly spaced, the first and the last among them."""
    # Data may be sorted by class, so the first ones would not do.
    if count >= length:
        return torch.arange(length)
    return torch.linspace(0, length - 1, count, dtype=torch.float64).round().long()


def title_of(record: OperatorRecord) -> str:
    """The operator's name, with its kind where the name does not tell it: ``2 (relu)``."""
    return record.name if record.kind in record.name else f"{record.name} ({record.kind})"


def as_array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, in double precision."""
    return tensor.detach().cpu().double().numpy()


class Reference(nn.Module):
    """What ``capture(model, example, until=until, output=output)`` must equal, computed by the module itself."""

    def __init__(self, model: nn.Module, until: str | None = None, output: str = "as_is") -> None:
        super().__init__()
        self.model = model
        self.until = until
        self.output = output
        modules = [name for name, _ in model.named_modules() if name]
        if until is not None and until not in modules:
            raise BadInput(
                f"until: {until!r} is not a module of the model, so what it gives cannot be compared with the model's "
                f"own values; name one of its {len(modules)} modules, the last of which are {modules[-5:]}"
            )

    def forward(self, *inputs: Tensor) -> Any:
        """The module's own value at the place asked for."""
        if self.until is not None:
            return self._value_after(self.until, inputs)
        if self.output == "as_is":
            return self.model(*inputs)
        if self.output != "pre_activation":
            values, spec = tree_flatten(self.model(*inputs))
            return values[output_names(spec).index(self.output)]
        # Capture stops before the last operator that it finds in a graph; here, where there is none, the operator is
        # known by the value that it returned.
        with _FinalCalls() as calls:
            output = self.model(*inputs)
        return tree_map(calls.argument_of, output)

    def _value_after(self, until: str, inputs: Sequence[Tensor]) -> Any:
        seen: list[Any] = []

        def keep(module: nn.Module, arguments: tuple, output: Any) -> None:
            # A later operator may change the value in place.
            seen.append(tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output))

        handle = self.model.get_submodule(until).register_forward_hook(keep)
        try:
            self.model(*inputs)
        finally:
            handle.remove()
        if not seen:
            raise BadInput(f"until: the module {until!r} is not called by the model; name one that is")
        return seen[-1]


class _FinalCalls(TorchFunctionMode):
    """Remembers what went into every softmax, sigmoid and tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        # An operator of an exported program is called e.g. softmax.int.
        if getattr(func, "__name__", "").split(".")[0] in FINAL:
            self.calls.append((result, args[0] if args else named["input"]))
        return result

    def argument_of(self, output: Any) -> Any:
        for result, argument in self.calls:
            if result is output:
                return argument
        raise BadInput(
            "output: 'pre_activation' needs a model that returns what its softmax, log-softmax, sigmoid or tanh gives; "
            "leave it out, or name the last module before it with until"
        )
