"""Complex values between real ones: a Fourier transform, a product with constants and the way back, as one real map.

The graph holds real values only. A complex value is not stored in it: it is kept as the call that computes it. Where a
real value is computed from it, all the calls in between become one operator, from real values to real values. Each of
them must be affine over the complex numbers, conjugate, or take the real or the imaginary part, so the whole is affine
over the real numbers.
"""

import operator as python_operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture.batch import PROBES, probed, run_batch
from maxaffine._capture.call import Call, Ref, leaves
from maxaffine._capture.registry import Rule
from maxaffine._capture.rules.arithmetic import one_factor
from maxaffine._capture.rules.shape import copy_of, replace_slice
from maxaffine._graph import Affine, BatchAxis, Dependence, Value
from maxaffine.errors import NotPiecewiseAffine

aten = torch.ops.aten

# Affine in all their arguments at once.
LINEAR = frozenset(
    """
    _fft_r2c _fft_c2c _fft_c2r view_as_complex view_as_real complex real imag _conj _conj_physical conj_physical
    resolve_conj resolve_neg neg _neg_view add sub rsub mean sum cumsum _to_copy where constant_pad_nd reflection_pad1d
    reshape view _unsafe_view unsqueeze squeeze permute transpose t expand slice select cat stack repeat
    split_with_sizes split unbind unfold diagonal flip roll index index_select index_put gather slice_scatter copy
    full full_like
    """.split()
)
# Affine in one factor at a time.
FACTORS = {
    "mul": ("self", "other"),
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "linear": ("input", "weight"),
    "convolution": ("input", "weight"),
}
# Affine for constant places.
INDEXED = {"index": "indices", "index_put": "indices", "index_select": "index", "gather": "index"}
DIVISOR = (
    "it divides by a complex value that depends on the input",
    "divide by a parameter or a constant, or capture the part before it (until=...)",
)
MODULUS = (
    "the modulus of a complex number is the square root of a sum of squares, which is not piecewise affine",
    "add the absolute values of the real and the imaginary part, or capture the part before it (until=...)",
)
OTHERWISE = (
    "it computes with complex numbers other than by sums, products with constants and Fourier transforms",
    "write it with the real and the imaginary part, torch.view_as_real(z), or capture the part before it (until=...)",
)
RETURNED = (
    "model: it returns complex numbers, which have no real affine map. Cure: return the two parts,"
    " torch.view_as_real(z)"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Complex(Ref):
    """A complex value, or a tuple of some, as the call that computes it."""

    call: Call


@dataclass(frozen=True, eq=False)
class Formula:
    """Several traced operators as one function."""

    name: str  # of the last operator
    # Each operator, and the places of its inputs among the function's inputs and the results so far.
    steps: tuple[tuple[Affine, tuple[int, ...]], ...]

    def __str__(self) -> str:
        return self.name

    def __call__(self, *inputs: Any) -> Any:
        """The value of the last operator."""
        values = list(inputs)
        for operator, places in self.steps:
            values.append(operator(*(values[place] for place in places)))
        return values[-1]


def is_complex(call: Call, traced: tuple) -> bool:
    """Whether complex numbers are among a call's arguments or traced results."""
    items = [*leaves(list(call.arguments.values())), *traced]
    if any(isinstance(item, Complex | complex) for item in items):
        return True
    samples = [item.sample if isinstance(item, Ref) else item for item in items]
    return any(isinstance(item, Tensor) and item.is_complex() for item in samples)


def check_affine(call: Call) -> None:
    """Refuse a call that is not affine over the complex numbers."""
    kind = call.name.rpartition(".")[2]
    # Conjugation and the parts of a number are not affine over the complex numbers, but over the real ones, as the
    # whole is.
    if kind in FACTORS:
        one_factor(call, *FACTORS[kind])
    elif kind == "div":
        if call.depends("other"):
            call.refuse(*DIVISOR)
    elif kind == "_to_copy" and not (
        call["dtype"] is None or call["dtype"].is_floating_point or call["dtype"].is_complex
    ):
        call.refuse(*OTHERWISE)
    elif kind in INDEXED and any(isinstance(item, Ref) for item in leaves([call[INDEXED[kind]]])):
        call.refuse(*OTHERWISE)
    elif kind not in LINEAR and call.target is not python_operator.getitem:
        call.refuse(*(MODULUS if kind == "abs" else OTHERWISE))


def keep(call: Call) -> Complex:
    """A complex value, kept as its call, and what it is on the probe batch."""
    sample = run_batch(call, _operator(call), [ref.sample for ref in call.refs], PROBES)
    kinds = [ref.value.dependence for ref in call.refs]
    held = Dependence.REGION if Dependence.REGION in kinds else Dependence.CONSTANT
    # Calls are alive as long as what is computed from them, so their addresses tell them apart.
    return Complex(-id(call), Value(Dependence.AFFINE if call.active else held), sample, call=call)


def compose(call: Call, name: str = "") -> tuple[Call, Rule]:
    """A call that takes complex values to a real one, as a call of one function of real values."""
    values: dict[int, Complex] = {}
    real: dict[int, Ref] = {}
    _collect(call, values, real)
    # The function's inputs come first, then the complex values, in the order in which their calls can run.
    places = {number: place for place, number in enumerate((*real, *values))}
    calls = (*(value.call for value in values.values()), call)
    steps = tuple((_operator(item), tuple(places[ref.number] for ref in item.refs)) for item in calls)
    names = tuple(f"arg{place}" for place in range(len(real)))
    arguments = dict(zip(names, real.values(), strict=True))
    whole = Call(Formula(name or call.name, steps), arguments, names, call.module_path, call.source)
    return whole, Rule(lambda call: call.affine(), partial(_apart, tuple(values.values())), sizes=True)


def _apart(values: Sequence[Complex], call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """As ``probed``; what brings samples together is refused by its own name, not by that of what makes it real."""
    try:
        return probed(call, outputs)
    except NotPiecewiseAffine:
        # The modulus keeps the samples where a complex value has them, so the first that fails is at fault.
        for value in values:
            if isinstance(value.sample, Tensor):  # not a tuple of some, one of which a further call picks
                part = value.call
                modulus = Call.of(aten.abs.default, (value,), {}, part.module_path, part.source)
                probed(compose(modulus, part.name)[0], [value.sample.abs()])
        raise


def _operator(call: Call) -> Affine:
    """The operator of one call."""
    return replace(call.affine(), target=TARGETS.get(call.target, call.target))


def _choose(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """As aten.where, of any condition."""
    # The proof that samples stay apart puts numbers in place of conditions. Samples of a condition along another axis
    # would make two axes grow with their number, which is refused.
    return torch.where(condition.bool(), first, second)


def _pair_up(x: Tensor) -> Tensor:
    """As aten.view_as_complex, of any memory layout."""
    return torch.view_as_complex(x.contiguous())


# The same with derivatives that PyTorch lacks, and whatever the memory layout.
TARGETS: dict[Callable, Callable] = {
    aten.view_as_complex.default: _pair_up,
    aten.where.self: _choose,
    aten.slice_scatter.default: replace_slice,
    aten.copy.default: copy_of,
}


def _collect(call: Call, values: dict[int, Complex], real: dict[int, Ref]) -> None:
    """The complex values that a call needs, each once and after what it needs itself, and the real ones below them."""
    for ref in call.refs:
        if not isinstance(ref, Complex):
            real[ref.number] = ref
        elif ref.number not in values:
            _collect(ref.call, values, real)
            values[ref.number] = ref
