"""Classes of torch.nn, functions of its functional module and some of torch: exact against slow oracles, or refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import maxaffine as ma
from tests.operator_table import ROWS
from tests.operator_table.excluded import EXCLUDED, TORCH, public_names
from tests.operator_table.outcome import ASKS, check_exact, check_frozen, evidence, outcome, with_carriers
from tests.operator_table.page import cells_of, explained, line, named, page
from tests.operator_table.row import VECTOR, Row, function, layer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"
INSTALLED = tuple(int(part) for part in torch.__version__.split(".")[:2])
# On another release of PyTorch some rows name what is not there.
NAMES = frozenset(public_names())
PRESENT = [row for row in ROWS if row.operator in NAMES or row.operator.startswith("torch.")]

# Deprecated functions and modules whose default is deprecated are rows too.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


@pytest.mark.parametrize("row", [row for row in PRESENT if row.exact], ids=str)
def test_exact(row: Row) -> None:
    net = outcome(row)
    assert isinstance(net, ma.SplineNetwork), f"refused: {net}"
    check_exact(row, net)
    _assert_written(row)


@pytest.mark.parametrize("row", [row for row in PRESENT if not row.exact], ids=str)
def test_refused(row: Row) -> None:
    error = outcome(row)
    assert isinstance(error, ma.MaxAffineError), "captured, but it has no affine map per sample"
    reason, cure = explained(error)
    assert reason and cure
    assert "no rule says" not in reason, "the operator is known: say why it is refused"
    if isinstance(error, ma.NotPiecewiseAffine):
        assert error.operator.startswith(("aten.", "prims."))
    shown = evidence(row)
    assert bool(shown) != bool(row.though_affine), shown or "nothing shows that no affine map exists: capture it"
    _assert_written(row)


@pytest.mark.parametrize("row", [row for row in PRESENT if row.exact], ids=str)
def test_nothing_is_held_in_what_is_exact(row: Row) -> None:
    net = outcome(row, "frozen")
    assert isinstance(net, ma.SplineNetwork), f"refused: {net}"
    assert not net.held and net.piecewise_affine


@pytest.mark.parametrize("row", [row for row in PRESENT if not row.exact], ids=str)
def test_frozen(row: Row) -> None:
    """Captured with its gates held, and exact at the input; captured once it is said what carries; or refused."""
    answer = outcome(row, "frozen")
    if isinstance(answer, ma.SplineNetwork):
        assert answer.held
    elif ASKS.search(str(answer)):
        answer = with_carriers(row, answer)
    else:
        reason, cure = explained(answer)
        assert reason and cure and "no rule says" not in reason
        return
    check_frozen(row, answer)


def _assert_written(row: Row) -> None:
    """The page, which is written with the pinned PyTorch, has the row's line."""
    if INSTALLED == TORCH:
        assert line(cells_of(row)) in PAGE.read_text(encoding="utf-8"), "run `make docs-operators`"


def test_no_row_is_written_twice() -> None:
    names = [str(row) for row in ROWS]
    assert sorted(set(names)) == sorted(names)


def test_every_public_name_has_a_row_or_a_reason() -> None:
    known = {row.operator for row in ROWS} | set(EXCLUDED)
    unknown = [name for name in public_names() if name not in known]
    if unknown and INSTALLED > TORCH:
        pytest.xfail(f"PyTorch {torch.__version__} is newer than the table, which lacks {unknown}")
    assert not unknown, f"give each a row in tests/operator_table, or a reason in excluded.py: {unknown}"


def test_no_name_is_both_excluded_and_in_the_table() -> None:
    assert not {row.operator for row in ROWS} & set(EXCLUDED)


@pytest.mark.skipif(INSTALLED != TORCH, reason="the page is written with the pinned PyTorch")
def test_page_is_up_to_date() -> None:
    """All rows stand on it, in order; what it answers to each is compared with that row's own test."""
    written, expected = (
        re.sub(r"^(\| [^|]* \| [^|]* \|) .*$", r"\1", text, flags=re.MULTILINE)
        for text in (PAGE.read_text(encoding="utf-8"), page(named))
    )
    assert written == expected, "run `make docs-operators`"


def test_an_outdated_page_is_caught() -> None:
    row = layer("LeakyReLU", VECTOR, 0.2, True)
    assert line(cells_of(row)) in PAGE.read_text(encoding="utf-8")
    assert line(cells_of(row)).replace("| 2 |", "| 3 |") not in PAGE.read_text(encoding="utf-8")


def test_a_wrong_gate_is_caught() -> None:
    """A network whose gates are held fails for a module of another curve."""
    net = outcome(layer("GELU", VECTOR), "frozen")
    assert isinstance(net, ma.SplineNetwork)
    with pytest.raises(ma.ExactnessError):
        check_frozen(layer("SiLU", VECTOR), net)


def test_a_wrong_claim_is_caught() -> None:
    """A network that belongs to another row fails the check of exactness."""
    row, other = layer("LeakyReLU", VECTOR, 0.2), layer("LeakyReLU", VECTOR, 0.3)
    net = outcome(other)
    assert isinstance(net, ma.SplineNetwork)
    with pytest.raises(AssertionError):
        check_exact(row, net)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (layer("Tanh", VECTOR), "curved"),
        (layer("BatchNorm1d", VECTOR, 6, train=True), "mixes samples"),
        (layer("Dropout", VECTOR, train=True), "random"),
        (function("pdist", VECTOR), "mixes samples"),
        (layer("ReLU", VECTOR), ""),
        (replace(layer("Linear", VECTOR, 6, 4), variant="affine"), ""),
    ],
    ids=str,
)
def test_evidence(row: Row, shown: str) -> None:
    assert evidence(row) == shown


def test_building_a_row_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert isinstance(layer("Linear", VECTOR, 6, 4).build(), nn.Linear)
    assert torch.equal(before, torch.get_rng_state())
