"""Region hierarchies against dictionaries of whole codes, and the refinement from depth to depth."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maxaffine._codes import Codes, Occupancy, RegionHierarchy, region_hierarchy
from maxaffine.errors import BadInput

PIECES = {"relu": 2, "affine": 1, "pool": 5, "nothing": 3, "deep": 2}
UNITS = {"relu": (3,), "affine": (4,), "pool": (1, 2), "nothing": (0,), "deep": (2, 1)}


def random_tensors(batch: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, pieces, (batch, *UNITS[name]), generator=generator) for name, pieces in PIECES.items()
    }


def random_labels(batch: int, seed: int) -> Tensor:
    return torch.randint(-1, 3, (batch,), generator=torch.Generator().manual_seed(seed))


def make(tensors: dict[str, Tensor]) -> Codes:
    return Codes.from_tensors({name: (codes, PIECES[name]) for name, codes in tensors.items()})


def members(tensors: Sequence[Tensor], batch: int) -> list[list[int]]:
    """The inputs of each region, by a dictionary of their codes."""
    regions: dict[str, list[int]] = defaultdict(list)
    for n in range(batch):
        regions[str([codes[n].tolist() for codes in tensors])].append(n)
    return list(regions.values())


def check(found: Occupancy, tensors: Sequence[Tensor], labels: list[int]) -> None:
    batch = len(labels)
    regions = members(tensors, batch)
    assert [[n for n in range(batch) if found.ids[n] == m] for m in range(found.regions)] == regions
    sizes = [len(region) for region in regions]
    assert found.entropy == pytest.approx(-sum(n / batch * math.log2(n / batch) for n in sizes), abs=1e-12)
    assert (found.largest, found.alone) == (max(sizes), sizes.count(1))
    commonest = [Counter(labels[n] for n in region).most_common(1)[0][1] for region in regions]
    assert found.purity == pytest.approx(sum(commonest) / batch)
    pairs = [labels[n] == labels[m] for region in regions for n in region for m in region if n < m]
    assert found.pair_purity == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


@given(st.integers(1, 40), st.integers(0, 1000), st.lists(st.sampled_from(list(PIECES)), min_size=1, unique=True))
def test_counts_equal_those_of_dictionaries(batch: int, seed: int, operators: list[str]) -> None:
    tensors, labels = random_tensors(batch, seed), random_labels(batch, seed)
    found = region_hierarchy(make(tensors), labels, operators)
    assert [level.operator for level in found.levels] == operators and found.batch == batch
    for depth, level in enumerate(found.levels):
        check(level.together, [tensors[name] for name in operators[: depth + 1]], labels.tolist())
        check(level.itself, [tensors[level.operator]], labels.tolist())
        assert (level.pieces, level.units) == (PIECES[level.operator], math.prod(UNITS[level.operator]))


def refines(finer: Tensor, coarser: Tensor) -> bool:
    return all(len(coarser[finer == region].unique()) == 1 for region in finer.unique())


@given(st.integers(1, 40), st.integers(0, 1000), st.permutations(list(PIECES)))
def test_deeper_regions_subdivide_earlier_ones(batch: int, seed: int, operators: list[str]) -> None:
    found = region_hierarchy(make(random_tensors(batch, seed)), random_labels(batch, seed), operators)
    for depth, (before, level) in enumerate(zip(found.levels, found.levels[1:], strict=False), start=1):
        assert refines(level.together.ids, before.together.ids) and refines(level.together.ids, level.itself.ids)
        assert level.together.regions >= max(before.together.regions, level.itself.regions)
        assert level.together.entropy >= before.together.entropy - 1e-12
        assert before.together.purity is not None and level.together.purity is not None
        assert level.together.purity >= before.together.purity
        flows = found.flows(depth)
        assert flows[:, 2].sum() == batch and flows[:, 1].sort().values.tolist() == list(range(level.together.regions))
        for parent, child, count in flows.tolist():
            assert ((before.together.ids == parent) & (level.together.ids == child)).sum() == count


def test_regions_of_an_operator_by_itself_need_not_refine() -> None:
    q = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    found = region_hierarchy(Codes.from_tensors({"a": (q[:, :1], 2), "b": (q[:, 1:], 2)}))
    assert not refines(found.levels[1].itself.ids, found.levels[0].itself.ids)
    assert found.levels[1].together.regions == 4


def test_a_wrong_count_is_caught() -> None:
    """Purity that counts a region once, however many inputs it holds, and entropy in nats."""
    tensors = {"relu": torch.tensor([[0, 0, 0]] * 3 + [[1, 0, 0]])}
    labels = [0, 0, 1, 1]
    right = region_hierarchy(Codes.from_tensors({"relu": (tensors["relu"], 2)}), labels).levels[0].together
    check(right, [tensors["relu"]], labels)
    for wrong in (replace(right, purity=(2 / 3 + 1) / 2), replace(right, entropy=right.entropy * math.log(2))):
        with pytest.raises(AssertionError):
            check(wrong, [tensors["relu"]], labels)


def test_extremes() -> None:
    codes = Codes.from_tensors({"same": (torch.zeros(4, 3).bool(), 2), "own": (torch.arange(4)[:, None], 4)})
    same, own = (level.together for level in region_hierarchy(codes, labels=[0, 1, 0, 1]).levels)
    assert (same.regions, same.entropy, same.largest, same.alone) == (1, 0.0, 4, 0)
    assert (same.purity, same.pair_purity) == (0.5, pytest.approx(1 / 3))
    assert (own.regions, own.entropy, own.alone, own.purity, own.pair_purity) == (4, 2.0, 4, 1.0, None)
    unlabeled = region_hierarchy(codes).levels[0].itself
    assert (unlabeled.purity, unlabeled.pair_purity) == (None, None)


def drawn() -> RegionHierarchy:
    return region_hierarchy(make(random_tensors(50, 0)), random_labels(50, 0))


def test_json_holds_every_number() -> None:
    found = drawn()
    read = json.loads(found.to_json())
    assert read["batch"] == 50 and [level["operator"] for level in read["levels"]] == list(PIECES)
    for level, plain in zip(found.levels, read["levels"], strict=True):
        for part in ("together", "itself"):
            numbers = vars(getattr(level, part)).items()
            assert plain[part] == {name: value for name, value in numbers if name != "ids"}


def test_tables() -> None:
    found = drawn()
    lines = repr(found).splitlines()
    assert lines[0] == "RegionHierarchy: 50 inputs, 5 operators (entropy in bits)" and len(lines) == 1 + 2 * 7
    level = found.levels[0]
    assert lines[3].split()[:6] == ["relu", "3", str(level.itself.regions), f"{level.itself.entropy:.2f}"] + [
        str(level.itself.largest),
        str(level.itself.alone),
    ]
    codes = Codes.from_tensors({"layer.<0>": (torch.zeros(2, 3).bool(), 2)})
    page = region_hierarchy(codes)._repr_html_()
    assert "<td>layer.&lt;0&gt;</td><td>3</td><td>1</td><td>0.00</td>" in page
    assert page.count("<tr>") == page.count("</tr>") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": [0, 1]}, r"labels: torch.int64 of shape \(2,\); give 3 integers"),
        ({"labels": torch.zeros(3)}, "labels: torch.float32"),
        ({"labels": [0, 1, 2**64]}, "labels: they cannot be read"),
        ({"labels": torch.zeros(3, 1).long()}, r"shape \(3, 1\)"),
        ({"operators": ["relu", "typo"]}, r"operators: \['typo'\] are unknown; the codes have \['relu'"),
        ({"operators": ["relu", "relu"]}, "each once"),
        ({"operators": []}, "at least one operator"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        region_hierarchy(make(random_tensors(3, 0)), **arguments)


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one operator"):
        region_hierarchy(Codes({}, batch=2))
    with pytest.raises(BadInput, match="codes: they hold no input"):
        region_hierarchy(make(random_tensors(0, 0)))
    for depth in (0, 5, -1):
        with pytest.raises(BadInput, match=f"depth: {depth} is not in 1..4; give the later of two levels"):
            drawn().flows(depth)
