"""Codes as a mapping: construction, region ids against a pairwise loop, joining and showing."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._codes import Codes, PackedCodes, pack
from maxaffine.errors import BadInput

PIECES = {"relu": 2, "pool": 5, "affine": 1, "nothing": 3}


def random_tensors(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    units = {"relu": (3,), "pool": (1, 2), "affine": (4,), "nothing": (0,)}
    return {
        name: torch.randint(0, pieces, (batch, *units[name]), generator=generator) // draw
        for draw, (name, pieces) in enumerate(PIECES.items(), start=1)
    }


def make(tensors: dict[str, torch.Tensor]) -> Codes:
    return Codes.from_tensors({name: (codes, PIECES[name]) for name, codes in tensors.items()})


def naive_region_ids(tensors: dict[str, torch.Tensor], batch: int) -> list[int]:
    """Compare every input with every earlier one, code by code."""
    ids: list[int] = []
    for n in range(batch):
        for m in range(n):
            if all(codes[n].tolist() == codes[m].tolist() for codes in tensors.values()):
                ids.append(ids[m])
                break
        else:
            ids.append(len(set(ids)))
    return ids


@given(st.integers(0, 40), st.integers(0, 1000), st.sets(st.sampled_from(sorted(PIECES))))
def test_region_ids(batch: int, seed: int, chosen: set[str]) -> None:
    tensors = random_tensors(batch, seed)
    codes = make(tensors)
    assert codes.region_ids().tolist() == naive_region_ids(tensors, batch)
    few = {name: tensors[name] for name in sorted(chosen)}
    ids = codes.region_ids(sorted(chosen))
    assert ids.tolist() == naive_region_ids(few, batch)
    assert ids.dtype == torch.int64


def test_region_ids_divide_from_operator_to_operator() -> None:
    codes = make(random_tensors(60))
    coarse, fine = codes.region_ids("relu"), codes.region_ids(["relu", "pool"])
    assert int(coarse.max()) < int(fine.max())
    for region in fine.unique():
        assert len(coarse[fine == region].unique()) == 1


def test_region_ids_notice_one_changed_code() -> None:
    codes = pack(torch.randint(0, 9, (1, 1001)), 9)
    planes = codes.packed.repeat(3, 1, 1)
    planes[1, 1, 70] ^= 8
    planes[1, 3, 70] &= 255 - 8
    assert Codes({"pool": PackedCodes(9, (1001,), planes)}).region_ids().tolist() == [0, 1, 0]


def test_region_ids_refuse_unknown_operators() -> None:
    with pytest.raises(BadInput, match=r"operators: \['typo'\] are unknown; the codes have \['relu'"):
        make(random_tensors(2)).region_ids(["relu", "typo"])


def test_same_region_is_row_by_row() -> None:
    tensors = random_tensors(30)
    codes, shifted = make(tensors), make({name: codes.roll(1, 0) for name, codes in tensors.items()})
    ids = codes.region_ids()
    assert codes.same_region(shifted).tolist() == (ids == ids.roll(1)).tolist()
    assert codes.same_region(codes).all()
    with pytest.raises(BadInput, match="other has 29 rows"):
        codes.same_region(codes.rows(slice(1, None)))


def test_mapping() -> None:
    tensors = random_tensors(4)
    codes = make(tensors)
    assert list(codes) == list(PIECES) and len(codes) == 4 and codes.batch == 4
    assert "relu" in codes and "typo" not in codes and codes.get("typo") is None
    assert all(torch.equal(codes[name].unpack(), tensors[name].byte()) for name in PIECES)
    assert codes.nbytes == sum(part.nbytes for part in codes.values())
    assert codes.bits_per_sample == 3 * 1 + 2 * 3
    with pytest.raises(KeyError, match="no operator 'typo'; the codes have"):
        codes["typo"]


def test_immutable() -> None:
    operators = {"relu": pack(torch.tensor([[1]]), 2)}
    codes = Codes(operators, metadata={"network": "a"})
    operators.clear()
    assert list(codes) == ["relu"]
    with pytest.raises(TypeError):
        codes["relu"] = codes["relu"]  # type: ignore[index]
    with pytest.raises(TypeError):
        codes.metadata["network"] = "b"  # type: ignore[index]
    with pytest.raises(AttributeError):
        codes.batch = 3  # type: ignore[misc]


def test_equality_ignores_order_and_metadata() -> None:
    tensors = random_tensors(3)
    codes = make(tensors)
    assert codes == make(dict(reversed(tensors.items())))
    assert codes == Codes(codes, metadata={"network": "a"})
    assert codes != codes.rows([0, 1])
    assert codes != make({name: tensors[name] for name in ("relu", "pool")})
    assert codes != make(tensors | {"relu": 1 - tensors["relu"]})
    assert codes != dict(codes)
    assert Codes({}, batch=2) != Codes({}, batch=3)
    assert pickle.loads(pickle.dumps(codes)) == codes == copy.deepcopy(codes)


def test_no_operators() -> None:
    codes = Codes({}, batch=3)
    assert codes.region_ids().tolist() == [0, 0, 0]
    assert codes.same_region(codes).tolist() == [True] * 3
    assert codes.rows([2, 0]).batch == 2
    assert Codes.concat([codes, codes]).batch == 6
    with pytest.raises(BadInput, match="give batch="):
        Codes({})


def test_construction_refuses() -> None:
    two, three = pack(torch.zeros(2, 1, dtype=torch.bool), 2), pack(torch.zeros(3, 1, dtype=torch.bool), 2)
    with pytest.raises(BadInput, match=r"'a': 2, 'b': 3"):
        Codes({"a": two, "b": three})
    with pytest.raises(BadInput, match="batch=5"):
        Codes({"a": two}, batch=5)
    with pytest.raises(BadInput, match=r"operator 'pool': codes run from 0 to 9"):
        Codes.from_tensors({"pool": (torch.tensor([[0, 9]]), 9)})
    with pytest.raises(Exception, match="PackedCodes"):
        Codes({"a": torch.zeros(2, 1)})  # type: ignore[dict-item]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_concat_undoes_rows(sizes: list[int]) -> None:
    codes = make(random_tensors(sum(sizes)))
    ends = torch.tensor(sizes).cumsum(0).tolist()
    parts = [codes.rows(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    assert Codes.concat(parts) == codes


def test_rows_of_all_operators() -> None:
    codes = make(random_tensors(6))
    mask = torch.tensor([True, False, False, True, False, True])
    assert codes.rows(mask) == codes.rows([0, 3, 5]) == make({n: c[mask] for n, c in random_tensors(6).items()})
    assert codes.rows(2).batch == 1
    with pytest.raises(IndexError, match="row 6 of 6"):
        codes.rows(6)


def test_concat_refuses_other_operators_and_names_them() -> None:
    tensors = random_tensors(2)
    codes = make(tensors)
    with pytest.raises(BadInput, match="parts: there are none"):
        Codes.concat([])
    with pytest.raises(BadInput, match=r"parts\[2\].*'pool': absent instead of units \(1, 2\), 5 pieces"):
        Codes.concat([codes, codes, make({name: tensors[name] for name in ("relu", "affine", "nothing")})])
    with pytest.raises(BadInput, match=r"'relu': units \(3,\), 3 pieces instead of units \(3,\), 2 pieces"):
        Codes.concat([codes, Codes({**codes, "relu": pack(tensors["relu"], 3)})])
    with pytest.raises(BadInput, match=r"'extra': units \(3,\), 2 pieces instead of absent"):
        Codes.concat([codes, Codes({**codes, "extra": codes["relu"]})])


def test_metadata_that_all_parts_share_are_kept() -> None:
    one = Codes({}, batch=1, metadata={"network": "a", "split": "train"})
    two = Codes({}, batch=1, metadata={"network": "a", "split": "test"})
    assert Codes.concat([one, two]).metadata == {"network": "a"}
    assert one.rows([0]).metadata == one.metadata
    with pytest.raises(Exception, match="metadata"):
        Codes({}, batch=1, metadata={"network": 3})  # type: ignore[dict-item]


def test_tables() -> None:
    codes = Codes.from_tensors({"layer1.<0>": (torch.zeros(2, 3, 4, dtype=torch.bool), 2)})
    text = repr(codes)
    assert "2 inputs, 1 operators, 12 bits each, 4 bytes" in text
    assert text.splitlines()[-1].split() == ["layer1.<0>", "(3,", "4)", "2", "2"]
    page = codes._repr_html_()
    assert "<td>layer1.&lt;0&gt;</td><td>(3, 4)</td><td>2</td><td>2</td>" in page
    assert page.count("<tr>") == page.count("</tr>") == 2
