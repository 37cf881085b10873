"""Templates, states and codes through time: what an output hears of every step of a sequence."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._drawing import SequencePicture, html_table, png, sequence_axes, sequence_figure, short
from maxaffine._graph import BatchAxis, Graph, Linearization
from maxaffine._network import Network, TimedRecurrence, timed_recurrences
from maxaffine._templates.layer import find_layer
from maxaffine._templates.parts import Positions, check_place
from maxaffine._templates.result import Templates, array, blocks, double
from maxaffine._templates.templates import Names, Unit, templates
from maxaffine.errors import MaxAffineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLES = 16  # whose local maps are held at once


@dataclass(frozen=True, eq=False, repr=False)
class StatesThroughTime:
    """The states h_t of one recurrent layer in one direction, and what follows them.

    Attributes:
        name: Path of the layer, with its number and direction where there are several.
        backward: Whether the layer runs from the last step to the first.
        reach: |W_c A_(t:T)|, the norm of the map from h_t to output c, (N, K, S); S = T steps, or, where ``timed`` is
            False, as many as the layer has, counted as they run.
        codes: Of each operator that makes a state the codes (N, S, units), by the name of its first. Of held gates,
            which have no regions, they are the signs of what is gated.
        timed: Whether the layer has a state for every step of the input.
        begins: Whether its first state is made of one before it, such as an input; else it begins at a constant.
    """

    name: str
    backward: bool
    reach: Tensor
    codes: Mapping[str, Tensor]
    timed: bool
    begins: bool
    _graph: Graph
    _inputs: tuple[Tensor, ...]
    _axes: tuple[int, ...]
    _states: tuple[int, ...]
    _final: int

    @property
    def switches(self) -> Tensor:
        """How many units change their code from each step to the next, over all operators, (N, S - 1)."""
        none = torch.zeros(len(self.reach), self.reach.shape[2] - 1, dtype=torch.int64)
        return sum(((q[:, 1:] != q[:, :-1]).sum(2) for q in self.codes.values()), start=none)

    @cached_property
    def gains(self) -> Tensor:
        """|A_(t:T)|_2, (N, S): by how much a change of h_t can grow in the last state; vanishing or exploding."""
        graph, final = self._graph.part([self._final]), self._graph.values[self._final]
        found = []
        for inputs in _split(self._inputs, self._axes):
            local = Linearization(graph, inputs)
            rows = final.to_rows(local.outputs[0])
            eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
            cotangent = torch.stack([final.from_rows(row.expand(len(rows), -1)) for row in eye])
            maps = local.cotangents_at(self._states, [cotangent])
            norms = [_matrix_norms(maps.get(number), graph, number, len(rows)) for number in self._states]
            found.append(torch.stack(norms, 1))
        return torch.cat(found)


@dataclass(frozen=True, eq=False, repr=False)
class ThroughTime:
    """f_c(x) = sum_t <A[x]_{c,t}, x_t> + <A[x]_{c,h}, h_0> + b[x]_c, step by step; from `SplineNetwork.through_time`.

    Attributes:
        templates: The templates themselves, checked against the network's values.
        axis: The axis of time among the axes of one input.
        input: Which of the floating-point inputs is the sequence.
        input_names: Of those inputs.
        positions: <A_{c,t}, x_t>, (N, K, T), b, and its split over the operators.
        rows: A, for every floating-point input (N, K, *in) in double precision.
        layers: The recurrent layers, each direction by itself; empty where there are none, or of fewer than five steps.
    """

    templates: Templates
    axis: int
    input: int
    input_names: tuple[str, ...]
    positions: Positions
    rows: tuple[Tensor, ...]
    layers: tuple[StatesThroughTime, ...]

    @cached_property
    def heard(self) -> Tensor:
        """|A_{c,t}|, (N, K, T): what output c still hears of each step."""
        return self.rows[self.input].movedim(2 + self.axis, 2).flatten(3).norm(dim=3)

    @property
    def initial(self) -> Mapping[str, Tensor]:
        """A_h by name: of every floating-point input but the sequence, as an initial state is, (N, K, *in)."""
        pairs = enumerate(zip(self.input_names, self.rows, strict=True))
        return {name: rows for place, (name, rows) in pairs if place != self.input}

    @property
    def unheard(self) -> Tensor:
        """The steps of which no output hears anything, (N, T): padding that is masked, or units that are all off."""
        return (self.heard == 0).all(1)

    @property
    def initial_norms(self) -> Mapping[str, Tensor]:
        """|A_h| by name, (N, K)."""
        return {name: rows.flatten(2).norm(dim=2) for name, rows in self.initial.items()}

    def to_dict(self) -> dict[str, Any]:
        """Values, parts and norms as lists, with the layers by name."""
        layers = {
            one.name: {"reach": one.reach.tolist(), "gains": one.gains.tolist(), "switches": one.switches.tolist()}
            for one in self.layers
        }
        return {
            "names": list(self.templates.names),
            "values": self.templates.values.tolist(),
            "offsets": self.templates.offsets.tolist(),
            "parts": self.positions.parts.tolist(),
            "heard": self.heard.tolist(),
            "unheard": self.unheard.tolist(),
            "initial": {name: norms.tolist() for name, norms in self.initial_norms.items()},
            "layers": layers,
        }

    def plot(
        self,
        sample: int = 0,
        unit: int | str | None = None,
        *,
        against: int | str | None = None,
        ax: Axes | None = None,
        size: float | None = None,
    ) -> Axes:
        """Draw a sequence above its template, what the output still hears of each step, and the codes of each layer.

        Args:
            sample: Number of the sequence.
            unit: Number or name of the output; by default the largest of this sequence.
            against: Another output: its template is taken off, and what is drawn speaks for the one over the other.
            ax: What to draw in; None makes a figure of pyplot.
            size: Width of a new figure in inches.

        Returns:
            The axes, whose ``child_axes`` are the panels.

        Raises:
            BadInput: When there is no such sequence or output.
            MaxAffineError: When matplotlib is absent.
        """
        found, n = self.templates, check_place(sample, len(self.templates), "sample")
        place = found.largest(n, 1)[0] if unit is None else found.place(unit)
        return sequence_axes(ax, self._drawn(n, place, None if against is None else found.place(against)), size)

    def _drawn(self, n: int, place: int, rival: int | None = None) -> SequencePicture:
        """One sequence and one output, or what speaks for it over another."""
        found, layers = self.templates, self.layers

        def of(values: Tensor) -> Tensor:
            return values[n, place] if rival is None else values[n, place] - values[n, rival]

        def series(rows: Tensor) -> np.ndarray:
            return array(rows.movedim(self.axis, 0).flatten(1))

        row = series(of(self.rows[self.input]))
        inner, offset = float(of(found.inner)), float(of(found.offsets))
        split = f"{inner:.3g} {'+' if offset >= 0 else '-'} {abs(offset):.3g} = {inner + offset:.3g}".replace("-", "−")
        words = short(found.names[place], 24) + ("" if rival is None else f" over {short(found.names[rival], 24)}")
        curves = [("template", "k-", np.linalg.norm(row, axis=1))]
        for number, one in enumerate(layers):
            if rival is None:
                curves.append((short(one.name, 30), f"C{number}-", array(of(one.reach))))
            curves.append(("" if rival is None else short(one.name, 30), f"C{number}:", array(one.gains[n])))
        marks = [(f"from {name}", float(of(rows).norm())) for name, rows in self.initial.items()]
        rasters = []
        for one in layers:
            for role, q in list(one.codes.items())[:1]:
                count = int((q[n, 1:] != q[n, :-1]).sum())
                title = f"codes of {short(one.name, 30)} ({short(role, 30)}): {count} switches"
                rasters.append((title, q[n].numpy(force=True)))
        solid = ", from each state to the output (solid)" if rival is None and layers else ""
        words_of = f"norms, step by step: of the template{solid}{' and to the last state (dotted)' if layers else ''}"
        return SequencePicture(
            [
                (f"sequence {n}", series(found.inputs[self.input][n]), False),
                (f"template of {words}: ⟨A, x⟩ + b = {split}", row, True),
            ],
            curves,
            marks,
            words_of,
            rasters,
        )

    def _words(self) -> str:
        count = self.heard.shape[2]
        lines = [
            f"ThroughTime: {len(self.templates.names)} outputs at {len(self.templates)} sequences of {count} steps"
        ]
        for one in self.layers:
            units = next(iter(one.codes.values())).shape[2] if one.codes else 0
            given = "its initial state is an input" if self.initial else "its first state is made otherwise"
            start = given if one.begins else "it begins at a constant inside"
            lines.append(f"  {one.name}: {one.reach.shape[2]} states, {units} units with a code; {start}")
        if not self.layers:
            lines.append("  no recurrence of five steps or more was found: steps are positions alone")
        elif not self.initial:
            lines.append("  for the map from h_0 capture learning.FromInitialState(model, x)")
        silent = self.unheard.sum(1)
        if bool(silent.any()):
            some = ", ".join(f"{int(k)} of sequence {n}" for n, k in enumerate(silent) if k and n < 5)
            lines.append(f"  no output hears some steps at all (padding, or units that are off): {some}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self._words()

    def _repr_html_(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("output", "value", "b", "|A|", "hears most of step", *(f"|A_h| of {name}" for name in self.initial))
        ]
        for place in self.templates.largest(0, 5):
            numbers = [float(item[0, place]) for item in (self.templates.values, self.templates.offsets)]
            numbers.append(float(self.templates.norms[0, place]))
            rows.append(
                (
                    self.templates.names[place],
                    *(f"{number:.4g}".replace("-", "−") for number in numbers),
                    str(int(self.heard[0, place].argmax())),
                    *(f"{float(norms[0, place]):.4g}" for norms in self.initial_norms.values()),
                )
            )
        words = "<br>".join(escape(line.strip()) for line in self._words().splitlines())
        return f"<p>{words}</p>{html_table(rows, 'the largest outputs at the first sequence')}{self._picture()}"

    def _picture(self) -> str:
        try:
            figure = sequence_figure(self._drawn(0, self.templates.largest(0, 1)[0]))
        except MaxAffineError as error:
            return f"<p>{escape(str(error))}</p>"
        encoded = base64.b64encode(png(figure)).decode("ascii")
        words = "a sequence and its template over time"
        return f'<img style="max-width:100%" alt="{words}" src="data:image/png;base64,{encoded}">'


def through_time(  # noqa: D417 - net is the network whose method it is
    net: Network,
    x: Any,
    classes: Unit | Sequence[Unit] | Tensor | np.ndarray | None = None,
    until: str | None = None,
    *,
    axis: int = 0,
    input: int = 0,
    output: int | str | None = None,
    names: Names | None = None,
    progress: bool | None = None,
) -> ThroughTime:
    """What each output makes of every step of a sequence, what it still hears of each state, and the codes over time.

    h_t = D_t (W x_t + W_r h_{t-1} + b),   A_{c,t} = W_c A_(t:T) D_t W,   A_(t:T) = D_T W_r ... D_{t+1} W_r

    The templates come from any network that takes sequences. Recurrent layers are found by what they do: apply the same
    parameters again and again, each time to what they made before: nn.RNN, nn.LSTM and nn.GRU (gates held, with
    ``smooth="frozen"``), their cells and cells written by hand, in several layers and both directions. The state is the
    one value through which everything passes from step to step: h_t, and of an LSTM with held gates c_t, which makes
    h_t. What follows it counts by all ways, through later layers too.

    Args:
        x: The sequences, as at capture.
        classes: Numbers or names of the outputs; all by default, whose templates are built and kept.
        until: Operator or module whose units are looked at; the network's output by default.
        axis: The axis of time among the axes of one input: 0 of (N, T, D).
        input: Which floating-point input is the sequence, where there are several; the others are initial states.
        output: Which output, by number or name, for a network with several.
        names: Names of the units, in order or by number.
        progress: Whether to show a bar; by default when it takes over two seconds.

    Returns:
        Templates, norms, layers and codes; they draw themselves.

    Raises:
        BadInput: When the input has no such axis, or there is no such layer or unit.
        ExactnessError: When <A_c, x> + b_c misses the network's own value by more than rounding can explain.

    Example:
        >>> import torch, maxaffine as ma
        >>> class Last(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rnn = torch.nn.RNN(2, 3, nonlinearity="relu", batch_first=True)
        ...
        ...     def forward(self, x):
        ...         return self.rnn(x)[0][:, -1]
        >>> x = torch.ones(4, 6, 2)
        >>> found = ma.capture(Last(), x).through_time(x)
        >>> found.heard.shape, found.layers[0].reach.shape, found.layers[0].codes["rnn.relu"].shape
        (torch.Size([4, 3, 6]), torch.Size([4, 3, 6]), torch.Size([4, 6, 3]))

    Source: Wang, Balestriero and Baraniuk, "A Max-Affine Spline Perspective of Recurrent Neural Networks" (ICLR 2019).
    """
    found = templates(net, x, classes, until, output=output, names=names, progress=progress)
    recurrent = timed_recurrences(net, axis, input)
    axis %= found.inputs[input].dim() - 1
    rows = [[double(part) for part in block] for block in blocks(found.affine_map, found.inputs, progress)]
    pairs = zip(net.inputs.names, net.inputs.dtypes, strict=True)
    return ThroughTime(
        templates=found,
        axis=axis,
        input=input,
        input_names=tuple(name for name, dtype in pairs if dtype.is_floating_point),
        positions=found.by_position(axis, input=input),
        rows=tuple(torch.cat(parts, 1) for parts in zip(*rows, strict=True)),
        layers=_layers(net, x, found.units, until, output, recurrent),
    )


def _layers(
    net: Network,
    x: Any,
    units: Sequence[int],
    until: str | None,
    output: int | str | None,
    recurrent: Sequence[TimedRecurrence],
) -> tuple[StatesThroughTime, ...]:
    """The layers whose states lead to the wanted units."""
    graph, inputs = find_layer(net, until, output).graph, net.inputs.tensors(x)
    target = graph.values[graph.outputs[0]]
    made = {number for step in graph.steps for number in step.outputs}
    recurrent = [one for one in recurrent if made.intersection(one.states)]
    numbers = [number for one in recurrent for number in one.states]
    norms: dict[int, list[Tensor]] = {number: [] for number in numbers}
    for part in _split(inputs, net.inputs.batch_dims) if numbers else ():
        local = Linearization(graph, part)
        like = target.to_rows(local.outputs[0])
        eye = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)[list(units)]
        cotangent = torch.stack([target.from_rows(row.expand(len(like), -1)) for row in eye])
        maps = local.cotangents_at(numbers, [cotangent])
        for number in numbers:
            front = _front(maps.get(number), graph, number, (len(units), len(like)))
            norms[number].append(front.norm(dim=2).T)
    codes = net.codes(x, [name for one in recurrent for step in one.operators for name in step]) if recurrent else {}
    layers = []
    for one in recurrent:
        roles = zip(*one.operators, strict=True)
        first = -1 if one.backward else 0
        stacks = {role[first]: torch.stack([codes[name].unpack().flatten(1) for name in role], 1) for role in roles}
        reach = torch.stack([torch.cat(norms[number]) for number in one.states], 2)
        parts = (net.graph, inputs, net.inputs.batch_dims, one.states, one.final)
        layers.append(StatesThroughTime(one.name, one.backward, reach, stacks, one.timed, one.begins, *parts))
    return tuple(layers)


def _split(inputs: Sequence[Tensor], axes: Sequence[int]) -> list[list[Tensor]]:
    """The inputs, a few samples at a time."""
    count = inputs[0].shape[axes[0]]
    runs = list(slices(count, SAMPLES))
    return [[x.narrow(d, run.start, run.stop - run.start) for x, d in zip(inputs, axes, strict=True)] for run in runs]


def _front(found: Tensor | None, graph: Graph, number: int, counts: tuple[int, int]) -> Tensor:
    """Cotangents at a value as (R, N, units) in double precision; zero where nothing is asked of it."""
    value = graph.values[number]
    if found is None:
        return torch.zeros(*counts, 1, dtype=torch.float64)
    return double((value.batch or BatchAxis()).to_front(found, lead=1)).flatten(2)


def _matrix_norms(found: Tensor | None, graph: Graph, number: int, count: int) -> Tensor:
    """The largest singular value of the map from a state, (N,)."""
    front = _front(found, graph, number, (1, count))
    return torch.linalg.matrix_norm(front.transpose(0, 1), ord=2)
