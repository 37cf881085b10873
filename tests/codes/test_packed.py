"""Packing against a bit-by-bit loop, and everything that PackedCodes refuses."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._codes import PackedCodes, pack
from maxaffine.errors import BadInput

INTEGERS = [torch.int16, torch.int32, torch.int64]


def naive_planes(codes: torch.Tensor, pieces: int) -> list[list[list[int]]]:
    """Bit planes, one Python integer operation per bit."""
    bits = 0
    while 2**bits < pieces:
        bits += 1
    rows = []
    for row in codes.reshape(codes.shape[0], -1).tolist():
        planes = [[0] * ((len(row) + 7) // 8) for _ in range(bits)]
        for k, code in enumerate(row):
            for j in range(bits):
                planes[j][k // 8] += (code // 2**j % 2) * 2 ** (k % 8)
        rows.append(planes)
    return rows


@st.composite
def codes_and_pieces(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    pieces = draw(st.integers(1, 300))
    shape = draw(st.lists(st.integers(1, 5), max_size=4).map(lambda units: (draw(st.integers(1, 4)), *units)))
    dtypes = INTEGERS + [torch.uint8] * (pieces <= 256) + [torch.bool] * (pieces == 2)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    codes = torch.randint(0, pieces, shape, generator=generator).to(draw(st.sampled_from(dtypes)))
    order = draw(st.permutations(range(len(shape))))
    # The same numbers in another memory order.
    return codes.permute(order).contiguous().permute([order.index(d) for d in range(len(shape))]), pieces


@given(codes_and_pieces())
def test_planes_and_round_trip(drawn: tuple[torch.Tensor, int]) -> None:
    codes, pieces = drawn
    packed = pack(codes, pieces)
    assert packed.packed.tolist() == naive_planes(codes, pieces)
    assert packed.units == tuple(codes.shape[1:]) and len(packed) == len(codes)
    assert packed.nbytes == packed.bytes_per_sample * len(codes)
    unpacked = packed.unpack()
    assert unpacked.dtype == (torch.uint8 if pieces <= 256 else torch.int32)
    assert torch.equal(unpacked, codes.to(unpacked.dtype))
    assert pack(unpacked, pieces) == packed


def test_units_are_in_row_major_order_whatever_the_memory_format() -> None:
    codes = torch.rand(3, 5, 4, 6) > 0.5
    assert pack(codes.contiguous(memory_format=torch.channels_last), 2) == pack(codes, 2)
    assert pack(codes[:, ::2, :, 1:4], 2) == pack(codes[:, ::2, :, 1:4].clone(), 2)
    assert pack(codes[:1].expand(3, 5, 4, 6), 2) == pack(codes[:1].repeat(3, 1, 1, 1), 2)


@pytest.mark.parametrize(("pieces", "dtype"), [(2**31, torch.int32), (2**31 + 1, torch.int64), (2**63, torch.int64)])
def test_many_pieces(pieces: int, dtype: torch.dtype) -> None:
    codes = torch.tensor([[0, pieces - 1, pieces // 3], [1, pieces // 2, 255]])
    packed = pack(codes, pieces)
    assert packed.packed.tolist() == naive_planes(codes, pieces)
    assert packed.unpack().dtype == dtype
    assert packed.unpack().tolist() == codes.tolist()


def test_bool_codes_of_an_operator_with_more_pieces() -> None:
    codes = torch.tensor([[True, False, True]])
    for pieces in (3, 300):
        assert pack(codes, pieces) == pack(codes.long(), pieces)


@pytest.mark.parametrize(("shape", "pieces"), [((4, 3), 1), ((4, 0), 2), ((4, 2, 0), 9), ((0, 3), 2), ((0, 0), 1)])
def test_nothing_to_store(shape: tuple[int, ...], pieces: int) -> None:
    packed = pack(torch.zeros(shape, dtype=torch.int64), pieces)
    assert packed.nbytes == 0
    assert packed.unpack().shape == shape
    assert packed == pack(torch.zeros(shape, dtype=torch.bool), pieces)
    assert packed.same_region(packed).tolist() == [True] * shape[0]


def test_one_unit_without_dimensions() -> None:
    assert pack(torch.tensor([1, 0, 1]), 2).packed.flatten().tolist() == [1, 0, 1]
    assert pack(torch.tensor([1, 0, 1]), 2).unpack().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("codes", "pieces", "message"),
    [
        (torch.tensor([[0.0, 1.0]]), 2, "bool or integers"),
        (torch.tensor(1), 2, "a row per input"),
        (torch.tensor([[0, 2]]), 2, r"0 to 2, but 2 pieces allow 0 to 1"),
        (torch.tensor([[0, 256]]), 2, "check pieces"),
        (torch.tensor([[-1, 0]]), 2, "-1 to 0"),
        (torch.tensor([[9]], dtype=torch.uint8), 9, "9 pieces allow 0 to 8"),
        (torch.tensor([[True]]), 1, "1 pieces allow 0 to 0"),
        (torch.tensor([[0]]), 0, "pieces=0"),
        (torch.tensor([[0]]), -3, "pieces=-3"),
        (torch.tensor([[0]]), True, "pieces=True"),
        (torch.tensor([[0]]), 2**63 + 1, "from 1 to 2"),
    ],
)
def test_pack_refuses(codes: torch.Tensor, pieces: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        pack(codes, pieces)


@pytest.mark.parametrize(
    ("pieces", "units", "planes", "message"),
    [
        (2, (9,), torch.zeros(1, 1, 2, dtype=torch.int32), "give uint8"),
        (2, (9,), torch.zeros(1, 1, 2, dtype=torch.uint8, device="meta"), "on the CPU"),
        (2, (9,), torch.zeros(1, 1, 1, dtype=torch.uint8), r"need \(N, 1, 2\)"),
        (3, (9,), torch.zeros(1, 1, 2, dtype=torch.uint8), r"need \(N, 2, 2\)"),
        (2, (9,), torch.zeros(1, 2, dtype=torch.uint8), "has shape"),
        (2, (-1,), torch.zeros(1, 1, 0, dtype=torch.uint8), "negative"),
        (2, (9,), torch.tensor([[[0, 2]]], dtype=torch.uint8), "bits set past its 9 units"),
        (3, (8,), torch.tensor([[[4], [4]]], dtype=torch.uint8), "codes above 2"),
    ],
)
def test_planes_are_checked(pieces: int, units: tuple[int, ...], planes: torch.Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        PackedCodes(pieces, units, planes)


@given(st.integers(2, 40), st.data())
def test_range_check_of_planes_agrees_with_arithmetic(pieces: int, data: st.DataObject) -> None:
    bits = (pieces - 1).bit_length()
    codes = torch.tensor([data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=12))])
    planes = torch.tensor(naive_planes(codes, pieces), dtype=torch.uint8)
    if int(codes.max()) < pieces:
        assert PackedCodes(pieces, (codes.shape[1],), planes).unpack().tolist() == codes.tolist()
    else:
        with pytest.raises(BadInput, match="above"):
            PackedCodes(pieces, (codes.shape[1],), planes)


@given(codes_and_pieces(), st.data())
def test_a_flipped_bit_is_noticed(drawn: tuple[torch.Tensor, int], data: st.DataObject) -> None:
    packed = pack(*drawn)
    if not packed.nbytes:
        return
    position = data.draw(st.integers(0, packed.nbytes * 8 - 1))
    planes = packed.packed.clone()
    planes.view(-1)[position // 8] ^= 1 << position % 8
    try:
        damaged = PackedCodes(packed.pieces, packed.units, planes)
    except BadInput:
        return
    assert damaged != packed
    assert packed.same_region(damaged).logical_not().sum() == 1
    assert (packed.unpack() != damaged.unpack()).sum() == 1


ROWS = [
    (0, [0]),
    (-1, [4]),
    (np.int64(3), [3]),
    (slice(1, 3), [1, 2]),
    (slice(None, None, -2), [4, 2, 0]),
    (slice(9, 12), []),
    ([4, 0, 0], [4, 0, 0]),
    ([], []),
    ([True, False, True, False, False], [0, 2]),
    (torch.tensor([1, -2]), [1, 3]),
    (torch.tensor([False, True, False, False, True]), [1, 4]),
    (np.array([2, 1], dtype=np.int32), [2, 1]),
]


@pytest.mark.parametrize(("rows", "expected"), ROWS, ids=str)
def test_rows(rows: int, expected: list[int]) -> None:
    codes = torch.randint(0, 5, (5, 3, 7))
    chosen = pack(codes, 5)[rows]
    assert chosen.unpack().tolist() == [codes[row].tolist() for row in expected]


def test_rows_of_a_read_only_array() -> None:
    index = np.array([1, 0])
    index.setflags(write=False)
    assert pack(torch.tensor([[0], [1]]), 2)[index].unpack().tolist() == [[1], [0]]


def test_iteration_yields_each_input() -> None:
    packed = pack(torch.randint(0, 3, (4, 6)), 3)
    assert [row.unpack().tolist() for row in packed] == [[row] for row in packed.unpack().tolist()]


@pytest.mark.parametrize("row", [3, -4, [0, 3]])
def test_absent_rows(row: int | list[int]) -> None:
    with pytest.raises(IndexError, match="of 3; rows run from 0 to 2"):
        pack(torch.zeros(3, 1, dtype=torch.bool), 2)[row]


@pytest.mark.parametrize("rows", [torch.tensor([0.5]), torch.zeros(2, 2, dtype=torch.int64), [True, False]])
def test_rows_of_a_wrong_kind(rows: torch.Tensor | list[bool]) -> None:
    with pytest.raises(BadInput, match="rows"):
        pack(torch.zeros(3, 1, dtype=torch.bool), 2)[rows]


def test_equality() -> None:
    codes = torch.tensor([[0, 1, 1, 0]])
    packed = pack(codes, 2)
    assert packed == pack(codes.bool(), 2)
    assert packed != pack(codes, 3)
    assert packed != pack(codes.reshape(1, 2, 2), 2)
    assert packed != pack(1 - codes, 2)
    assert packed != pack(codes.repeat(2, 1), 2)
    assert packed != "codes"
    assert pickle.loads(pickle.dumps(packed)) == packed
    with pytest.raises(TypeError, match="unhashable"):
        hash(packed)


def test_same_region_refuses_other_operators_and_batches() -> None:
    packed = pack(torch.zeros(2, 3, dtype=torch.bool), 2)
    with pytest.raises(BadInput, match="3 pieces instead of units"):
        packed.same_region(pack(torch.zeros(2, 3, dtype=torch.int64), 3))
    with pytest.raises(BadInput, match="other has 1 rows, but there are 2"):
        packed.same_region(packed[:1])


def test_repr_names_the_shape() -> None:
    packed = pack(torch.zeros(2, 3, dtype=torch.int64), 9)
    assert repr(packed) == "PackedCodes(batch=2, units=(3,), pieces=9, bits=4)"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not available")
def test_codes_on_an_accelerator() -> None:
    codes = torch.randint(0, 9, (3, 5, 7))
    assert pack(codes.cuda(), 9) == pack(codes, 9)
