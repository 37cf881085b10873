"""Network: a captured network, as the graph of affine and piecewise-affine operators that it is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from math import prod
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten_with_path, tree_structure, tree_unflatten

from maxaffine._codes import FINGERPRINT, SMOOTH, Codes
from maxaffine._drawing import html_table, text_table
from maxaffine._graph import (
    TANGENT,
    BatchAxis,
    Curvature,
    Graph,
    Linearization,
    OperatorRecord,
    as_rows,
    curvatures,
    fuse,
    in_float64,
    loaded_target,
    saved_target,
    undisturbed,
    without_gates,
)
from maxaffine._maps import AffineMap
from maxaffine._network.fingerprint import fingerprint
from maxaffine._network.inputs import InputSpec
from maxaffine._network.sources import Sources
from maxaffine._network.task import COORDINATES, Task, as_task, infer_task
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput, NotPiecewiseAffine


@dataclass(frozen=True)
class Ending:
    """An activation that was left out after an output."""

    target: Callable  # the traced operator
    args: tuple  # its arguments after the first
    kwargs: dict[str, Any]  # its keyword arguments

    def __call__(self, value: Tensor) -> Tensor:
        """Apply it."""
        return self.target(value, *self.args, **self.kwargs)

    @property
    def name(self) -> str:
        """What it is called, e.g. ``"softmax"``."""
        return str(self.target).split(".")[1] if "." in str(self.target) else str(self.target)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the operator by name."""
        return {**vars(self), "target": saved_target(self.target)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the operator again."""
        self.__dict__.update(state, target=loaded_target(state["target"]))


# The columns of the table of operators; only a smooth network has the last.
COLUMNS = ("operator", "kind", "units", "pieces", "convex", "continuous", "held at the input")


def output_names(spec: TreeSpec) -> list[str]:
    """The name of every output: keys, fields and places on the way to it, with dots; empty for the only one."""
    paths, _ = tree_flatten_with_path(tree_unflatten(list(range(spec.num_leaves)), spec))
    words = (
        [getattr(step, "key", getattr(step, "name", getattr(step, "idx", ""))) for step in path] for path, _ in paths
    )
    return [".".join(map(str, steps)) for steps in words]


@dataclass(eq=False, repr=False)
class Network:
    """What a captured network is and gives: its outputs, affine maps and codes, and its parts."""

    graph: Graph
    inputs: InputSpec
    output_spec: TreeSpec  # how its outputs are nested
    places: dict[str, int]  # operator names and module paths to the numbers of their values in the graph
    endings: tuple[Ending | None, ...] = ()  # the activation left out after each output; empty: none after any
    tasks: tuple[Task, ...] = ()  # what each output answers, where that was said; empty: nothing was
    sources: Sources | None = None  # where its constants come from; None where that was lost
    mapped: bool = False  # whether one sample was traced alone and its graph is mapped over the batch

    def __call__(self, x: Any) -> Any:
        """The network's own output, nested as the user's module returns it.

        Args:
            x: A tensor, a tuple of tensors or a dict of tensors, as at capture.

        Returns:
            The output.

        Raises:
            BadInput: For NaN, infinity or an empty batch.
            ShapeMismatch: For another shape, dtype or device than at capture.
        """
        with undisturbed(self.inputs.device):
            return tree_unflatten(self.graph.run(self.inputs.tensors(x)), self.output_spec)

    @cached_property
    def operators(self) -> tuple[OperatorRecord, ...]:
        """A record of every operator that depends on the input, in running order."""
        return tuple(record for step in self.graph.steps for record in step.records)

    @property
    def piecewise_affine(self) -> bool:
        """Whether its maps hold throughout regions; else they hold at single inputs, the gates of `held` held there."""
        return not self.held

    @property
    def gated(self) -> bool:
        """Whether a gate is held that the Jacobian moves: A is not the Jacobian then."""
        return any(record.held != TANGENT for record in self.held)

    @cached_property
    def held(self) -> tuple[OperatorRecord, ...]:
        """The smooth operators: what carries in each, what gates it, and the formula with the gates held at the input.

        Empty for a piecewise-affine network. Otherwise f(x) = A[x] x + b[x] is exact at every x and says nothing of
        other inputs: A is not the Jacobian (unless captured with ``smooth="tangent"``), there are no regions, and where
        a product has two factors that depend on the input, another choice of its carrier gives another A and b.
        """
        return tuple(record for record in self.operators if record.held)

    def require_regions(self, what: str) -> None:
        """Refuse a smooth network at its first operator; `what` needs regions, as a plural."""
        if self.held:
            first = self.held[0]
            raise NotPiecewiseAffine(
                first.name,
                f"it is smooth ({first.held}): its map holds at one input, there are no regions, and {what} need them",
                "ask for maps, templates, codes or neighbors, or make the network piecewise affine (ReLU)",
                first.module_path,
                first.source,
            )

    @cached_property
    def convex(self) -> bool:
        """Whether every output is provably convex in the input: an input-convex network (sufficient, not necessary)."""
        known = curvatures(self.graph)
        proved = (Curvature.CONVEX, Curvature.AFFINE, Curvature.CONSTANT)
        return all(known[number] in proved for number in self.graph.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that name the network: its operators, how they are connected, and their parameters.

        The same module captured again, also in another process, has the same; a weight changed by one bit, another
        dtype or another connection gives another. `codes` keeps it with the codes, so that codes of different
        networks are not taken for those of one.
        """
        return fingerprint(self.graph)

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What later rooms have found out about the graph, which stays as it is, each by a key of its own."""
        return {}

    @cached_property
    def _fused(self) -> Graph:
        return fuse(self.graph)

    def affine_map(
        self,
        x: Any,
        outputs: Sequence[int] | Tensor | None = None,
        until: str | None = None,
        output: int | str | None = None,
        **options: Any,
    ) -> AffineMap:
        """The affine map f(x) = A[x] x + b[x] at each input of a batch.

        Args:
            x: The inputs, as at capture.
            outputs: Flat numbers of the units to keep, e.g. ``[3, 7]``; all by default.
            until: Name of an operator or module to stop after, e.g. ``"layer3.0.relu"``; the output by default.
            output: Which output, by number or name, for a network with several.
            options: ``chunk_bytes``, see :class:`AffineMap`.

        Returns:
            The map, lazy: nothing is built before it is asked for.

        Raises:
            BadInput: For an unknown name, or when one of several outputs must be chosen.
        """
        # A fused pair has no value between its two: where that is asked for, the graph as captured has it.
        target = self.target(until, output)
        fused = self._fused.part([target])
        graph = self.graph.part([target]) if fused.missing() else fused
        names = self.inputs.names if self.inputs.keyword else ()
        return AffineMap(graph, self.inputs.tensors(x), outputs, names=names, **options)

    def jacobian_distance(
        self,
        x: Any,
        outputs: Sequence[int] | Tensor | None = None,
        until: str | None = None,
        output: int | None = None,
        **options: Any,
    ) -> Tensor:
        """How far A[x] is from the Jacobian J[x] at each input: |A - J| / |J|, in Frobenius norms over the outputs.

        0 means that A says what a small change of x does; 1 that it is as far from J as the zero map. A
        piecewise-affine network, and one captured with ``smooth="tangent"``, has A = J and 0 exactly. Where gates are
        held J is found from the same operators with none held: rows of A and of J are built and compared in blocks.

        Args:
            x: The inputs, as at capture.
            outputs: Flat numbers of the units whose rows are compared, as of :meth:`affine_map`; all by default.
            until: Name of an operator or module to stop after; the output by default.
            output: Which output, for a network with several.
            options: ``chunk_bytes``, see :class:`AffineMap`.

        Returns:
            (N,) in double precision; infinite where J is zero and A is not.

        Raises:
            BadInput: For an unknown name, when one of several outputs must be chosen, or where an operator has no
                finite slope.

        Example:
            >>> import torch, maxaffine as ma
            >>> net = ma.capture(torch.nn.SiLU(), torch.zeros(1, 1), smooth="frozen")
            >>> x = torch.ones(1, 1)  # A = sigmoid(1), J = A (1 + 1 - A)
            >>> A = torch.sigmoid(x)
            >>> torch.allclose(net.jacobian_distance(x).float(), (1 - A) / (2 - A))
            True
        """
        held = self.affine_map(x, outputs, until, output, **options)
        squares = torch.zeros(2, held.batch, dtype=torch.float64)
        if not self.gated:
            return squares[0]
        graph = without_gates(self.graph).part([self.target(until, output)])
        moved = AffineMap(graph, self.inputs.tensors(x), outputs, **options)
        # Both cut their rows by the same sizes, so that the blocks are of the same rows.
        for rows, own in zip(held.rows(), moved.rows(), strict=True):
            for a, j in zip(rows, own, strict=True):
                pair = torch.stack([as_rows(a - j), as_rows(j)])
                squares += torch.linalg.vector_norm(pair, dim=2, dtype=torch.float64).square().cpu()
        apart, whole = squares.sqrt()
        return torch.where(apart == 0, 0, apart / whole)

    def shares(
        self, x: Any, operator: str, outputs: Sequence[int] | None = None, *, output: int | str | None = None
    ) -> Tensor:
        """What each unit of an operator inside adds to each output, exactly: share = u * v.

        v is the unit's value and u what the rest of the network, an affine map at x, makes of it. Summed over the units
        of an operator that everything passes, and with the offsets after it, the shares are the output. Where a
        residual connection leads around it they are what the operator added: so with the attention weights of a
        transformer held, the shares of one head's channels are what that head added to a logit.

        Args:
            x: The inputs, as at capture.
            operator: Name of the operator or module whose value is looked at, e.g. ``"blocks.5.attention"``.
            outputs: Flat numbers of the outputs; all by default.
            output: Which output, by number or name, for a network with several.

        Returns:
            (N, K, *units of the operator).

        Raises:
            BadInput: When there is no such operator or output, or the operator carries no share of it.

        Example:
            >>> import torch, maxaffine as ma
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GELU(), torch.nn.Linear(3, 1))
            >>> x = torch.ones(1, 2)
            >>> net = ma.capture(model, x, smooth="frozen")
            >>> share = net.shares(x, "1")
            >>> torch.allclose(share.sum(2) + model[2].bias, model(x))
            True
        """
        number, inside = self.target(None, output), self.target(operator, None, "operator")
        graph = self.graph.part([number])
        if inside not in graph.carriers() or not any(inside in step.outputs for step in graph.steps):
            raise BadInput(
                f"operator: {operator!r} carries no share of the output; it comes after it, or only gates what does (as"
                " queries, keys and masks do)"
            )
        tensors = self.inputs.tensors(x)
        local, value = Linearization(graph, tensors), graph.values[number]
        rows = value.to_rows(local.outputs[0])
        wanted = list(range(rows.shape[1])) if outputs is None else list(outputs)
        if not all(0 <= unit < rows.shape[1] for unit in wanted):
            raise BadInput(f"outputs: the output has the units 0..{rows.shape[1] - 1}, got {wanted}")
        # Made one by one as they are pulled: all at once they would take K x N x K numbers.
        units = torch.arange(rows.shape[1], device=rows.device)
        one_hot = ((units == unit).to(rows).expand(len(rows), -1) for unit in wanted)
        found = local.shares(tensors, ([value.from_rows(row).unsqueeze(0)] for row in one_hot), inside)
        return (graph.values[inside].batch or BatchAxis()).to_front(found, lead=1).transpose(0, 1)

    def codes(self, x: Any, operators: Sequence[str] | None = None, progress: bool | None = None) -> Codes:
        """The code of every unit of every piecewise-affine operator, packed into bits.

        Args:
            x: The inputs as at capture, or a data loader of batches (inputs, or inputs first and labels after them).
            operators: Names of the operators to keep; all by default.
            progress: Whether a loader shows a progress bar; by default when it takes over two seconds.

        Returns:
            The codes.

        Raises:
            BadInput: For an unknown operator, bad inputs or an empty loader.
        """
        operators = [operators] if isinstance(operators, str) else operators
        graph = self.graph if operators is None else self._only(operators)
        if not isinstance(x, Iterable):
            raise BadInput(f"x: expected inputs or a loader of batches, got {type(x).__name__}")
        if isinstance(x, Tensor | tuple | dict) or isinstance(x, list) and all(isinstance(i, Tensor) for i in x):
            return self._batch_codes(graph, x, operators)
        batches = [self._batch_codes(graph, item, operators) for item in self._inputs_of(x, progress)]
        if not batches:
            raise BadInput("x: the loader gave no batch")
        return Codes.concat(batches)

    def _batch_codes(self, graph: Graph, x: Any, operators: Sequence[str] | None) -> Codes:
        tensors = self.inputs.tensors(x)
        axis = self.inputs.batch_dims[0]
        with undisturbed(self.inputs.device):
            found = {
                record.name: (codes, record.pieces)
                for record, codes in graph.codes(tensors)
                if operators is None or record.name in operators
            }
        # Codes of a smooth network say less (no regions), which who reads them from a file has to know.
        metadata = {FINGERPRINT: self.fingerprint} | ({SMOOTH: self.held[0].name} if self.held else {})
        return Codes.from_tensors(found, tensors[0].shape[axis], metadata)

    def _inputs_of(self, loader: Iterable, progress: bool | None) -> Iterator[Any]:
        for item in progress_bar(progress, "codes", iterable=loader, unit="batch"):
            labeled = isinstance(item, tuple | list) and len(item) == len(self.inputs.names) + 1
            inputs = item[:-1] if labeled else item
            yield inputs[0] if isinstance(inputs, tuple | list) and len(inputs) == 1 else inputs

    def _only(self, operators: Sequence[str]) -> Graph:
        known = {record.name for record in self.operators if record.pieces > 1}
        unknown = [name for name in operators if name not in known]
        if unknown:
            raise BadInput(f"operators: {unknown} are not piecewise-affine operators here; there are {sorted(known)}")
        return self.graph.part([self.places[name] for name in operators])

    def double(self) -> Self:
        """The function that this network's parameters define, computed in float64.

        Returns:
            A network that takes float64 inputs; this one where it is in float64 already.

        Example:
            >>> import maxaffine as ma
            >>> net = ma.capture(torch.nn.Linear(2, 3), torch.zeros(1, 2))
            >>> net.double()(torch.zeros(1, 2, dtype=torch.float64)).dtype
            torch.float64
        """
        graph = in_float64(self.graph)
        if graph is self.graph:
            return self
        dtypes = tuple(torch.float64 if dtype.is_floating_point else dtype for dtype in self.inputs.dtypes)
        spec = replace(self.inputs, dtypes=dtypes)
        return replace(self, graph=graph, inputs=spec, sources=None)

    def task(self, output: int | str | None = None, labels: int | None = None) -> Task:
        """What an output answers: a class, a value, several values, or a field over coordinates.

        What was said at capture holds. Otherwise a row of two or more outputs is taken for classes, unless a sigmoid or
        tanh follows; a single output for a value, or for the logit of two classes where a sigmoid follows; and values
        at a point of 2 or 3 coordinates for a field. Labels, where there is data, say more: see ``labels``.

        Args:
            output: Which output, by number or name, for a network with several.
            labels: Number of classes of the data that it is asked about, below 2 where that has no labels: as many as
                outputs (or 2, of a single output) are its classes, and without labels there are none.

        Returns:
            The task.

        Raises:
            BadInput: When one of several outputs must be chosen.

        Example:
            >>> import maxaffine as ma
            >>> ma.capture(torch.nn.Linear(4, 3), torch.zeros(1, 4)).task().value
            'classes'
            >>> ma.capture(torch.nn.Linear(4, 3), torch.zeros(1, 4), task="values").task().value
            'values'
            >>> ma.capture(torch.nn.Linear(4, 1), torch.zeros(1, 4)).task().value
            'value'
        """
        place = self.output_place(output)
        if self.tasks:
            return self.tasks[place]
        ending = self.endings[place] if self.endings else None
        units = self.graph.values[self.graph.outputs[place]].units
        return infer_task(units, self._is_point, "" if ending is None else ending.name, labels)

    def task_at(self, number: int) -> Task:
        """The task of a value of the graph: of an output its own, and inside a network of classes that of its shape."""
        if number in self.graph.outputs:
            return self.task(self.graph.outputs.index(number))
        units = self.graph.values[number].units
        classes = any(self.task(place) is Task.CLASSES for place in range(len(self.graph.outputs)))
        return infer_task(units, False, "", None if classes else 0)

    def with_task(self, *tasks: Task | str) -> Self:
        """The same network, with what it answers said.

        Args:
            tasks: One for all outputs, or one for each: ``"classes"``, ``"value"``, ``"values"`` or ``"field"``.

        Returns:
            The network.

        Raises:
            BadInput: When there is no such task, or an output cannot be meant so.
        """
        values = [self.graph.values[number] for number in self.graph.outputs]
        given = tasks * len(values) if len(tasks) == 1 else tasks
        if len(given) != len(values):
            raise BadInput(f"task: {len(given)} for {len(values)} outputs; give one for all, or one for each")
        pairs = zip(given, values, strict=True)
        return replace(self, tasks=tuple(as_task(task, value.units, self._is_point) for task, value in pairs))

    def with_labels(self, labels: int, task: Task | str | None = None, output: int | str | None = None) -> Self:
        """The same network beside data of so many classes (below 2: no labels), with what it answers said for good."""
        # What one output answers may be given, the others' is inferred, from the labels too.
        tasks: list[Task | str] = [self.task(place, labels) for place in range(len(self.graph.outputs))]
        if task is not None:
            tasks[self.output_place(output)] = task
        return self.with_task(*tasks)

    @property
    def _is_point(self) -> bool:
        """Whether the input is one point of 2 or 3 coordinates."""
        return len(self.inputs.units) == 1 and self.inputs.units[0] in [(count,) for count in COORDINATES]

    def part(self, after: str | None = None, until: str | None = None) -> Self:
        """The part of the network after one operator and up to another, as a network of its own.

        Args:
            after: Operator or module whose output becomes the input; the network's own inputs by default.
            until: Operator or module whose output becomes the output; the network's own by default.

        Returns:
            The part.

        Raises:
            BadInput: For an unknown name, or when some path leads around ``after``.
        """
        targets = self.graph.outputs if until is None else (self.target(until, None),)
        spec = self.output_spec if until is None else tree_structure(0)
        tasks = tuple(self.task_at(number) for number in targets)
        if after is None:
            return self._with(self.graph.part(targets), self.inputs, spec, tasks)
        start = self.target(after, None, "after")
        # Cut at its start, the graph lacks a value exactly where some path does not pass there.
        graph = self.graph.part(targets, [start])
        if graph.missing():
            raise BadInput(
                f"after: some path leads around {after!r} (a skip connection?), so what follows is not a function of it"
                " alone; choose an operator that every path passes"
            )
        return self._with(graph, self._input_at(start), spec, tasks)

    def _with(self, graph: Graph, inputs: InputSpec, spec: TreeSpec, tasks: tuple[Task, ...]) -> Self:
        alive = {number for step in graph.steps for number in step.outputs if number is not None}
        places = {n: p for n, p in self.places.items() if p in alive}
        sources = None if self.sources is None else self.sources.used_by(graph)
        cut = {"endings": (), "tasks": tasks, "sources": sources}
        return replace(self, graph=graph, inputs=inputs, output_spec=spec, places=places, **cut)

    def _input_at(self, number: int) -> InputSpec:
        value = self.graph.values[number]
        axis = value.batch or BatchAxis()
        if (axis.outer, axis.inner) != (1, 1) or value.dtype is None:
            raise BadInput("after: this value keeps its samples folded into another axis; choose another operator")
        alone = {"names": ("x",), "keyword": False, "units": (value.units,), "dtypes": (value.dtype,)}
        return replace(self.inputs, batch_dims=(axis.dim,), **alone)

    def target(self, until: str | None, output: int | str | None, argument: str = "until") -> int:
        """The number, in the graph, of the value to stop at; messages call ``until`` by the name of `argument`."""
        if until is not None:
            if until not in self.places:
                raise BadInput(
                    f"{argument}: no operator or module is called {until!r}; there are {sorted(self.places)}"
                )
            return self.places[until]
        return self.graph.outputs[self.output_place(output)]

    def output_place(self, output: int | str | None) -> int:
        """Where an output stands among those of the network: its number or name, or None for the only one."""
        count = len(self.graph.outputs)
        if output is None and count == 1:
            return 0
        names = output_names(self.output_spec)
        if isinstance(output, str) and output in names:
            return names.index(output)
        words = [name for name in names if name and not name.isdigit()]
        called = f" ({', '.join(words)})" if words else ""
        if output is None:
            raise BadInput(
                f"output: the network has {count} outputs{called}; choose one of 0..{count - 1}, or name until="
            )
        if isinstance(output, str) or not 0 <= output < count:
            raise BadInput(f"output: the network has {count} outputs{called}; got {output!r}")
        return output

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: what it was made of, without what was computed from it since."""
        kind = type(self)
        computed = {name for name in vars(self) if isinstance(getattr(kind, name, None), cached_property)}
        state = {name: value for name, value in vars(self).items() if name not in computed}
        # By an example, whose own classes say how they are pickled: PyTorch warns when it reads its specification.
        return {**state, "output_spec": tree_unflatten(list(range(len(self.graph.outputs))), self.output_spec)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it again of what was pickled."""
        self.__dict__.update(state, output_spec=tree_structure(state["output_spec"]))

    def _summary(self) -> str:
        """One line: how many operators and units, and whether the network is convex in its input."""
        pieced = [record for record in self.operators if record.pieces > 1]
        units = sum(prod(record.units) for record in pieced)
        convex = "convex in its input" if self.convex else "not shown to be convex in its input"
        answers = ", ".join(self.task(place).value for place in range(len(self.graph.outputs)))
        mapped = "; one sample was traced alone, and is mapped over the batch" if self.mapped else ""
        pieced_units = f"{len(pieced)} of them piecewise affine with {units:,} units"
        if self.held:
            pieced_units = f"{len(self.held)} of them smooth, with their gates held at each input: no regions"
            convex = "A is not the Jacobian" if self.gated else "A is the Jacobian"
        return f"{len(self.operators)} operators, {pieced_units}; {convex}{mapped}; answers: {answers}"

    def _table(self) -> list[tuple[str, ...]]:
        """The cells of the table of operators, titles first."""
        rows = [
            (
                record.name,
                record.kind,
                " x ".join(map(str, record.units)) or "1",
                str(record.pieces),
                "yes" if record.convex else "no",
                "yes" if record.continuous else "no",
                record.held,
            )
            for record in self.operators
        ]
        columns = len(COLUMNS) if self.held else len(COLUMNS) - 1
        return [row[:columns] for row in (COLUMNS, *rows)]

    def __repr__(self) -> str:
        return f"SplineNetwork: {self._summary()}\n{text_table(self._table())}"

    def _repr_html_(self) -> str:
        pieced = [row for row, record in enumerate(self.operators, start=1) if record.pieces > 1]
        table = html_table(self._table(), strong=pieced)
        return f"<p><b>SplineNetwork</b>: {escape(self._summary())}</p>{table}"
