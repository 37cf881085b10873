"""Assemble the numbers of a report: plain calls to the other rooms."""

from __future__ import annotations

import copy
import platform
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maxaffine.capture import capture
from maxaffine.data import DataSet
from maxaffine.drawing import shown
from maxaffine.errors import BadInput, MaxAffineError
from maxaffine.graph import BatchAxis
from maxaffine.maps import AffineMap
from maxaffine.network import SplineNetwork, verify
from maxaffine.progress import progress_bar
from maxaffine.report.facts import Check, Choices, ClassSplit, Contents, Explanation, Origin
from maxaffine.report.neighbours import find_neighbours, spaced
from maxaffine.report.reference import Reference

BATCH = 256
LARGEST_CONTRIBUTIONS = 5


def assemble(model: nn.Module, data: DataSet, choices: Choices, name: str, weights: str) -> Contents:
    """Capture a model, check it against itself, and collect every number that a report shows.

    Args:
        model: A piecewise-affine module in evaluation mode, from inputs (N, *input_shape).
        data: The data set to explain it on.
        choices: What to look at.
        name: What to call the model.
        weights: One sentence on where its weights come from.

    Returns:
        The numbers. Whether the check found more than rounding is in ``exact``; nothing is raised for that.

    Raises:
        BadInput: When a choice is impossible for this model.
        NotPiecewiseAffine: When the model has no exact spline form.

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576): templates
    as matched filters, and the distance of partition codes.
    """
    train, test = (like_model(split.inputs, model) for split in (data.train, data.test))
    net = capture(model, test[:2], until=choices.until, output=choices.output)
    reference = Reference(model, choices.until, choices.output)
    view = _View(net, reference, choices.output_index, data)
    right = (view.predictions(test) == data.test.labels) if view.classifies else None
    chosen = choose_inputs(right, data.test.labels, choices.images)
    own = verify(net, Reference(model, choices.until), test[_checked(test, choices.checked, chosen)], raises=False)
    checks = [Check(_name(own.dtype), own)]
    if own.dtype != torch.float64:
        checks.append(_check_double(model, test[_checked(test, choices.checked_double, chosen)], choices))
    return Contents(
        origin=_origin(model, data, name, weights),
        choices=choices,
        operators=net.operators,
        convex=net.convex,
        checks=tuple(checks),
        accuracy=None if right is None else float(right.double().mean()),
        explanations=tuple(view.explanation(test, index, choices.classes, own.bound) for index in chosen),
        neighbours=find_neighbours(net, train, test, data, chosen, choices),
    )


def like_model(inputs: Tensor, model: nn.Module) -> Tensor:
    """The inputs in the dtype and on the device of a model's parameters."""
    weight = next((item for item in model.parameters() if item.is_floating_point()), inputs)
    return inputs.to(weight.device, weight.dtype)


def choose_inputs(right: Tensor | None, labels: Tensor, count: int) -> list[int]:
    """Choose which test inputs to explain: right answers, one class after another, then some wrong ones.

    Args:
        right: Whether each test input is classified rightly (N,); None where that is not known.
        labels: Their classes (N,).
        count: How many to choose.

    Returns:
        Numbers of test inputs: the first of each class in turn; up to a third of them wrong answers, at the end.

    Example:
        >>> right, labels = torch.tensor([True, True, False, True]), torch.tensor([0, 0, 0, 1])
        >>> choose_inputs(right, labels, 3)
        [0, 3, 2]
    """
    if right is None:
        return spaced(len(labels), count).tolist()
    wrong = (~right).nonzero().flatten().tolist()
    turns: dict[int, int] = {}
    ranked = []
    for index in right.nonzero().flatten().tolist():
        label = int(labels[index])
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], label, index))
    mistakes = wrong[: max(count // 3, count - len(ranked))]
    return [index for _, _, index in sorted(ranked)][: count - len(mistakes)] + mistakes


def _origin(model: nn.Module, data: DataSet, name: str, weights: str) -> Origin:
    return Origin(
        model=name,
        weights=weights,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        data=data.name,
        train_size=len(data.train),
        test_size=len(data.test),
        input_shape=data.input_shape,
        class_names=data.class_names,
        versions={"maxaffine": version("maxaffine"), "torch": torch.__version__, "Python": platform.python_version()},
    )


def _checked(inputs: Tensor, count: int, chosen: Sequence[int]) -> list[int]:
    """Numbers of the inputs to check: some all over the data, and those that the page explains."""
    return sorted({*spaced(len(inputs), count).tolist(), *chosen})


def _check_double(model: nn.Module, inputs: Tensor, choices: Choices) -> Check:
    """The same check in float64 on a copy, where rounding leaves no room for a fault to hide."""
    try:
        with warnings.catch_warnings():
            # Copying an exported program makes torch warn of its own code.
            warnings.simplefilter("ignore", FutureWarning)
            double = copy.deepcopy(model).double()
        net = capture(double, inputs[:2].double(), until=choices.until, output=choices.output)
        return Check("float64", verify(net, Reference(double, choices.until), inputs.double(), raises=False))
    except (MaxAffineError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        # Some modules cannot be copied, or keep a dtype of their own; the page then says so.
        reason = (str(error).splitlines() or [""])[0]
        return Check("float64", None, f"it cannot run in float64 ({type(error).__name__}: {reason})")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _View:
    """One output of a captured network beside the module's own values."""

    def __init__(self, net: SplineNetwork, reference: Reference, output: int, data: DataSet) -> None:
        count = len(net.graph.outputs)
        if not 0 <= output < count:
            raise BadInput(f"output_index: the model has {count} outputs; give a number from 0 to {count - 1}")
        value = net.graph.values[net.graph.outputs[output]]
        if value.batch is None or value.dtype is None or not value.dtype.is_floating_point:
            raise BadInput(f"output_index: output {output} is no floating-point function of the input; choose another")
        self.net = net
        self.reference = reference
        self.output = output
        self.axis: BatchAxis = value.batch
        self.data = data
        self.classifies = value.units == (data.classes,)

    def name(self, unit: int) -> str:
        return self.data.class_names[unit] if self.classifies else f"output {unit}"

    @torch.no_grad()
    def own(self, inputs: Tensor) -> Tensor:
        """The untouched module's output, (N, outputs)."""
        return self.axis.to_front(tree_leaves(self.reference(inputs.clone()))[self.output]).flatten(1)

    def predictions(self, inputs: Tensor) -> Tensor:
        batches = progress_bar(None, "test set", iterable=inputs.split(BATCH), unit="batch")
        return torch.cat([self.own(batch).argmax(1) for batch in batches]).cpu()

    def explanation(self, inputs: Tensor, index: int, classes: int, rtol: float) -> Explanation:
        x = inputs[index : index + 1]
        own = self.own(x)[0]
        label = int(self.data.test.labels[index])
        top = own.argsort(descending=True, stable=True)[:classes].tolist()
        if self.classifies and label not in top:
            top.append(label)
        affine_map = self.net.affine_map(x, outputs=top, output=self.output)
        splits = self._splits(affine_map, x, own, top, label, rtol)
        return Explanation(
            index=index,
            input=_array(x[0]),
            label=self.data.class_names[label],
            predicted=self.name(top[0]),
            right=top[0] == label if self.classifies else None,
            scale=max(float(np.abs(shown(split.template)).max()) for split in splits),
            splits=tuple(splits),
        )

    def _splits(
        self, affine_map: AffineMap, x: Tensor, own: Tensor, units: Sequence[int], label: int, rtol: float
    ) -> list[ClassSplit]:
        slopes, offsets = affine_map.slopes[0].double(), affine_map.offsets[0].double()
        terms = (slopes * x.double()).flatten(1)
        inner, sizes = terms.sum(1), terms.abs().sum(1) + offsets.abs()
        parts = {name: part[0].double() for name, part in affine_map.offset_contributions().items()}
        largest = sorted(parts, key=lambda name: -float(parts[name].abs().max()))[:LARGEST_CONTRIBUTIONS]
        return [
            ClassSplit(
                unit=unit,
                name=self.name(unit),
                label=self.classifies and unit == label,
                logit=float(own[unit]),
                inner=float(inner[row]),
                offset=float(offsets[row]),
                residual=float(own[unit].double() - inner[row] - offsets[row]),
                bound=rtol * float(sizes[row]),
                template=_array(slopes[row]),
                contributions=tuple((name, float(parts[name][row])) for name in largest),
                others=float(sum(part[row] for name, part in parts.items() if name not in largest)),
            )
            for row, unit in enumerate(units)
        ]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
