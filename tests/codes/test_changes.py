"""Codes compared row by row, against a loop over units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._codes import Codes, PackedCodes, code_changes, code_distance, drift, pack
from maxaffine.errors import BadInput

LAYOUT = {"relu": (2, (70,)), "pool": (9, (3, 5)), "wide": (300, (2, 2)), "affine": (1, (6,)), "nothing": (2, (0,))}


def random_codes(batch: int, seed: int) -> Codes:
    """Codes that agree often."""
    generator = torch.Generator().manual_seed(seed)
    return Codes.from_tensors(
        {
            name: (torch.randint(0, pieces, (batch, *units), generator=generator) * (torch.rand(units) < 0.5), pieces)
            for name, (pieces, units) in LAYOUT.items()
        },
        batch=batch,
    )


@given(st.integers(0, 6), st.integers(0, 1000), st.sampled_from([1, 100, 1 << 22]))
def test_equals_the_loop(batch: int, seed: int, block: int) -> None:
    a, b = random_codes(batch, seed), random_codes(batch, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "_BLOCK_BYTES", block)
        found = code_changes(a, b)
    assert list(found) == list(LAYOUT)
    for name, shares in found.items():
        rows = zip(a[name].unpack().flatten(1).tolist(), b[name].unpack().flatten(1).tolist(), strict=True)
        expected = [sum(p != q for p, q in zip(x, y, strict=True)) / max(1, len(x)) for x, y in rows]
        assert shares.dtype == torch.float64 and shares.tolist() == expected
        torch.testing.assert_close(shares, code_distance(a[name], b[name]).diagonal())
    back = code_changes(b, a)
    assert all(torch.equal(shares, back[name]) for name, shares in found.items())


def test_every_changed_bit_counts_once_a_unit() -> None:
    packed = pack(torch.randint(0, 16, (1, 1000)), 16)
    planes = packed.packed.clone()
    for plane in range(4):
        planes[0, plane, 124] ^= 128
        damaged = Codes({"pool": PackedCodes(16, (1000,), planes.clone())})
        assert code_changes(Codes({"pool": packed}), damaged)["pool"].item() == 1 / 1000


def test_metadata_of_two_networks_do_not_matter() -> None:
    codes = random_codes(3, 0)
    before, after = (Codes(codes, metadata={"network": name}) for name in ("a", "b"))
    assert all(not shares.any() for shares in code_changes(before, after).values())


def test_refuses_what_cannot_be_compared() -> None:
    codes = random_codes(2, 0)
    with pytest.raises(BadInput, match="'pool': absent instead of"):
        code_changes(codes, Codes({name: codes[name] for name in codes if name != "pool"}))
    with pytest.raises(BadInput, match="other has 3 rows"):
        code_changes(codes, random_codes(3, 0))
