"""What capture answers to a row, and whether the answer holds against slow oracles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from tests import oracles
from tests.operator_table.row import Row, SamplesFirst

SEEDS = (1, 2)
# How capture asks which factor of a product carries, with the names of both and of the product.
ASKS = re.compile(r"it multiplies '(.+)' and '(.+)', and either may carry")
PRODUCT = re.compile(r"carrier=\{'(.+)': \.\.\.\}")
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
# PyTorch's derivative of this operator holds 1/6 in single precision.
ROUGH = {"rtol": 1e-6, "atol": 1e-6}


@cache
def outcome(row: Row, smooth: str = "refuse") -> ma.SplineNetwork | ma.MaxAffineError:
    """The captured network, or the error that capture raised on purpose."""
    try:
        return ma.capture(row.build(), _given(row.example()), batch_dim=row.batch_dim, smooth=smooth)
    except ma.MaxAffineError as error:
        return error


def with_carriers(row: Row, error: ma.MaxAffineError) -> ma.SplineNetwork:
    """The network captured with the first factor of every product that asks which one carries."""
    carriers: dict[str, str] = {}
    while (asked := ASKS.search(str(error))) and (product := PRODUCT.search(str(error))):
        carriers[product[1]] = asked[1]
        try:
            example = _given(row.example())
            return ma.capture(row.build(), example, batch_dim=row.batch_dim, smooth="frozen", carrier=carriers)
        except ma.MaxAffineError as next_error:
            assert str(next_error) != str(error), "what was said of a product changed nothing"
            error = next_error
    raise error


def _given(inputs: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return inputs if len(inputs) > 1 else inputs[0]


def check_exact(row: Row, net: ma.SplineNetwork) -> None:
    """Output, A x + b, and every entry of A, against the untouched module; codes within their range."""
    module = row.build()
    for seed in SEEDS:
        first = row.draw(seed)
        x = _given(row.placed(first))
        values = tree_leaves(module(*row.placed(tuple(item.clone() for item in first))))
        for own, value in zip(tree_leaves(net(x)), values, strict=True):
            assert_close(own, value, rtol=1e-12, atol=1e-12)
        places = [place for place, value in enumerate(values) if value.is_floating_point()]
        maps = oracles.affine_maps(SamplesFirst(row, module), tuple(item.double() for item in first))
        for place, (slopes, offsets) in zip(places, maps, strict=True):
            _check_map(net.affine_map(x, output=place), slopes, offsets, first, _closeness(net))
        _check_codes(net, x)


def _closeness(net: ma.SplineNetwork) -> dict[str, float]:
    return ROUGH if any(record.kind == "hardsigmoid" for record in net.operators) else CLOSE


def _check_map(
    own: ma.AffineMap, slopes: Sequence[Tensor], offsets: Tensor, inputs: Sequence[Tensor], close: dict[str, float]
) -> None:
    blocks = own.slopes if isinstance(own.slopes, tuple) else (own.slopes,)
    floating = [place for place, item in enumerate(inputs) if item.is_floating_point()]
    for block, place in zip(blocks, floating, strict=True):
        assert_close(block, slopes[place], **close)
    assert_close(own.offsets, offsets, **close)
    applied = oracles.apply_jacobian(blocks, [inputs[place] for place in floating]) + own.offsets
    assert_close(applied, own.value, rtol=1e-11, atol=1e-11)
    assert_close(own.offset_contributions().sum(), own.offsets, rtol=1e-11, atol=1e-11)


def check_frozen(row: Row, net: ma.SplineNetwork) -> None:
    """A x + b with the gates held, and A, against the untouched module and that module with its gates detached."""
    module = row.build()
    for seed in SEEDS:
        first = row.draw(seed)
        if any(item.isnan().any() for item in tree_leaves(module(*row.placed(first)))):  # a root or logarithm below 0
            first = tuple(item.abs() for item in first)
        x = _given(row.placed(first))
        report = net.verify(module, x)
        assert report.exact and not report.unchecked
        assert net.gated == (report.slopes is not None)
        values = SamplesFirst(row, module)(*(item.double() for item in first))
        floating = [item for item in first if item.is_floating_point()]
        for place, value in enumerate(values):
            own = net.affine_map(x, output=place)
            blocks = own.slopes if isinstance(own.slopes, tuple) else (own.slopes,)
            assert_close(oracles.apply_jacobian(blocks, floating) + own.offsets, value, **CLOSE)


def _check_codes(net: ma.SplineNetwork, x: Tensor | tuple[Tensor, ...]) -> None:
    pieces = {record.name: record for record in net.operators if record.pieces > 1}
    for record, codes in net.graph.codes(net.inputs.tensors(x)):
        assert codes.shape[1:] == pieces.pop(record.name).units
        assert 0 <= int(codes.min()) and int(codes.max()) < record.pieces
    assert not pieces


def evidence(row: Row, samples: int = 12) -> str:
    """Why no affine map per sample exists, as far as running the untouched module shows; empty when nothing does."""
    module = row.build()
    first = row.draw(3, samples)
    try:
        with torch.no_grad():
            together = SamplesFirst(row, module)(*(item.clone() for item in first))
            again = SamplesFirst(row, module)(*(item.clone() for item in first))
    except Exception as error:
        return f"fails: {type(error).__name__}"
    if any(not torch.equal(a, b) for a, b in zip(together, again, strict=True)):
        return "random"
    return "mixes samples" if _mixes(row, module, first, together) else _curved(row, module, first)


def _mixes(row: Row, module: torch.nn.Module, first: Sequence[Tensor], together: Sequence[Tensor]) -> bool:
    if any(value.dim() == 0 or len(value) != len(first[0]) for value in together):
        return True
    try:
        with torch.no_grad():
            alone = SamplesFirst(row, module)(*oracles.sample([item.clone() for item in first], 1))
    except ValueError:
        return True
    return any(not torch.allclose(a[0], b[1], rtol=1e-9, atol=1e-12) for a, b in zip(alone, together, strict=True))


def _curved(row: Row, module: torch.nn.Module, first: Sequence[Tensor]) -> str:
    directions = [b * item.is_floating_point() for item, b in zip(first, row.draw(4, len(first[0])), strict=True)]
    bends = oracles.curvature(SamplesFirst(row, module), [item.double() for item in first], directions, step=1e-4)
    # A kink bends one sample in many; a curve bends nearly all of them. Rounding alone gives about 1e-7.
    return "curved" if float((bends > 1e-5).double().mean()) > 0.5 else ""
