"""One traced call of an operator, as a rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor

from maxaffine._graph import CARRYING, Affine, Dependence, Sign, Slot, Value
from maxaffine.errors import NotPiecewiseAffine

PLACES = ("indices", "index")  # arguments that say where entries are, in the schemas of operators


@dataclass(frozen=True, eq=False)
class Ref:
    """An argument that is computed while the network runs."""

    number: int  # in the graph
    value: Value
    sample: Any  # the tensor (or size) that it is on the probe batch
    traced: Any = None  # what the trace knows of it; of a size, how it follows from the number of samples
    held: bool = False  # whether this call holds it at the input of the network: it is a gate here
    gating: float = 0.0  # how much of a gate it is, from 0 to 1, where a product of two has to choose (see gates.py)
    name: str = ""  # what computes it, in messages
    origin: int | None = None  # the number of what it is a reshaping of; its own by default
    bent: bool = False  # whether it is computed from a held value: where it is constant, no flat faces bound
    asks: bool = False  # whether it would carry if it were said which factor of a product does

    @property
    def affine(self) -> bool:
        """Whether it depends affinely (piecewise) on the network's input, and is not held."""
        return self.value.dependence is Dependence.AFFINE and not self.held

    @property
    def size(self) -> bool:
        """Whether it is a size rather than a tensor."""
        return not isinstance(self.sample, Tensor)


def leaves(item: Any) -> Iterator[Any]:
    """Every argument in nested lists and tuples."""
    if isinstance(item, list | tuple):
        for inner in item:
            yield from leaves(inner)
    else:
        yield item


@dataclass(frozen=True, eq=False)
class Call:
    """One traced call.

    Arguments that vary with the network's input are :class:`Ref`; parameters and buffers are tensors; the rest are
    plain Python values.

    Attributes:
        target: The traced operator.
        arguments: Its arguments by their schema names, defaults included.
        positional: Names of the arguments passed by position.
        module_path: Dotted path of the calling module.
        source: Source line of the call, when it is known.
    """

    target: Callable
    arguments: dict[str, Any]
    positional: tuple[str, ...]
    module_path: str
    source: str

    @classmethod
    def of(cls, target: Callable, args: tuple, kwargs: dict, module_path: str, source: str) -> Call:
        """Name the arguments after the operator's schema."""
        if not isinstance(target, torch._ops.OpOverload):
            names = tuple(f"arg{place}" for place in range(len(args)))
            return cls(target, dict(zip(names, args, strict=True)) | kwargs, names, module_path, source)
        # By their names a rule need not know which arguments were given by position, and which not at all.
        schema = target._schema.arguments
        names = tuple(argument.name for argument in schema if not argument.kwarg_only)
        given = dict(zip(names, args, strict=False)) | kwargs
        arguments = {argument.name: given.get(argument.name, argument.default_value) for argument in schema}
        return cls(target, arguments, names, module_path, source)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def name(self) -> str:
        """The operator's full name, e.g. ``aten.relu``."""
        if isinstance(self.target, torch._ops.OpOverload):
            return f"{self.target.namespace}.{self.target._schema.name.split('::')[1]}"
        return getattr(self.target, "__name__", str(self.target))

    @property
    def kind(self) -> str:
        """The operator's short name, e.g. ``relu``."""
        return self.name.rpartition(".")[2].strip("_").removesuffix("_kernel")

    @cached_property
    def refs(self) -> tuple[Ref, ...]:
        """The arguments computed while the network runs, each once, in order."""
        references = [item for item in leaves(list(self.arguments.values())) if isinstance(item, Ref)]
        return tuple({(item.number, item.held): item for item in references}.values())

    @cached_property
    def active(self) -> tuple[Ref, ...]:
        """The arguments that depend affinely on the network's input."""
        return tuple(ref for ref in self.refs if ref.affine)

    @property
    def joint(self) -> bool:
        """Whether every entry that it moves depends on the input: no constant is mixed in, of whatever type."""
        # Integers and truth values beside floats are constants too; places are not moved themselves.
        moved = [item for name, item in self.arguments.items() if name not in PLACES]
        tensors = [item for item in leaves(moved) if isinstance(item, Ref | Tensor)]
        return all(isinstance(item, Ref) and (item.affine or item.size) for item in tensors)

    def depends(self, name: str) -> bool:
        """Whether an argument depends affinely on the network's input."""
        return any(isinstance(item, Ref) and item.affine for item in leaves(self.arguments[name]))

    def hold(self, *names: str) -> Call:
        """This call, with some of its arguments held at the input of the network: the gates of a smooth network.

        Args:
            names: Of the arguments; what is constant in regions stays as it is.

        Returns:
            The call, whose rule sees arguments that do not depend on the input.
        """

        def at_input(ref: Ref) -> Ref:
            return replace(ref, held=ref.value.dependence in CARRYING or ref.bent)

        held = {name: _map_refs(at_input, self[name]) for name in names}
        return replace(self, arguments=self.arguments | held)

    def refuse(self, reason: str, cure: str) -> NoReturn:
        """Refuse this call.

        Args:
            reason: Why.
            cure: What the user can do.

        Raises:
            NotPiecewiseAffine: Always.
        """
        raise NotPiecewiseAffine(self.name, reason, cure, self.module_path, self.source)

    def affine(self, homogeneous: bool = False, sign: Sign = Sign.MIXED, kind: str | None = None) -> Affine:
        """The operator of this call, affine in its active arguments and differentiated by PyTorch.

        Args:
            homogeneous: Whether zero arguments give a zero value.
            sign: Sign of the slopes with respect to every active argument.
            kind: Name in records; the operator's own by default.

        Returns:
            The operator.
        """
        # A value may be carrier and gate of one call, as in u * u: then it is two inputs.
        places = {(ref.number, ref.held): place for place, ref in enumerate(self.refs)}

        def slot(ref: Ref) -> Slot:
            return Slot(places[ref.number, ref.held])

        filled = {name: _map_refs(slot, item) for name, item in self.arguments.items()}
        return Affine(
            kind=kind or self.kind,
            target=self.target,
            args=tuple(filled.pop(name) for name in self.positional if name in filled),
            kwargs=filled,
            active=tuple(places[ref.number, ref.held] for ref in self.active),
            homogeneous=homogeneous,
            sign=(sign,) * len(self.active),
            continuous=not any(ref.value.dependence is Dependence.REGION for ref in self.refs),
        )


def _map_refs(function: Callable[[Ref], Any], item: Any) -> Any:
    """An argument, or nested ones, in which a function takes the place of what is computed while the network runs."""
    if isinstance(item, Ref):
        return function(item)
    return type(item)(_map_refs(function, inner) for inner in item) if isinstance(item, list | tuple) else item
