"""The drift of codes through training, against a loop, and the moment at which it settles."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxaffine._codes import Codes, Drift, code_distance, code_drift
from maxaffine.errors import BadInput

PIECES = {"relu": 2, "pool": 5, "affine": 1}


def random_moments(count: int, batch: int, seed: int) -> list[Codes]:
    """Codes of which fewer and fewer change."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randint(0, pieces, (batch, 3, 2), generator=generator) for name, pieces in PIECES.items()}
    moments = []
    for moment in range(count):
        for name, pieces in PIECES.items():
            fresh = torch.randint(0, pieces, (batch, 3, 2), generator=generator)
            change = torch.rand(batch, 3, 2, generator=generator) < 0.5**moment
            tensors[name] = torch.where(change, fresh, tensors[name])
        moments.append(Codes.from_tensors({name: (codes, PIECES[name]) for name, codes in tensors.items()}))
    return moments


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=20)
def test_distances_equal_those_of_every_input(count: int, batch: int, seed: int) -> None:
    moments = random_moments(count, batch, seed)
    drift = code_drift(moments)
    assert drift.operators == tuple(PIECES) and drift.distances.shape == (3, count, count) and drift.moments == count
    for row, name in enumerate(PIECES):
        for i, a in enumerate(moments):
            for j, b in enumerate(moments):
                each = [float(code_distance(a[name][n], b[name][n])) for n in range(batch)]
                assert float(drift.distances[row, i, j]) == pytest.approx(sum(each) / batch, abs=1e-12)
    assert torch.equal(drift.distances, drift.distances.mT)
    assert torch.equal(drift.steps, torch.stack([drift.distances[:, e, e + 1] for e in range(count - 1)], dim=1))
    assert torch.equal(drift.to_last, drift.distances[:, :, count - 1])


def of_one(to_last: list[float]) -> Drift:
    """A drift of one operator whose moments lie on a line."""
    places = torch.tensor(to_last, dtype=torch.float64)
    return Drift(("relu",), (places[:, None] - places).abs()[None])


@pytest.mark.parametrize(
    ("to_last", "first"),
    [
        ([0.4, 0.2, 0.04, 0.03, 0.0], 2),
        ([0.4, 0.04, 0.2, 0.03, 0.0], 3),
        ([0.01, 0.04, 0.0], 0),
        ([0.4, 0.3, 0.2, 0.0], 3),
        ([0.4, 0.05, 0.0], 1),
        ([0.4, 0.0500001, 0.0], 2),
    ],
)
def test_settled_is_the_first_moment_after_which_nothing_is_far(to_last: list[float], first: int) -> None:
    assert of_one(to_last).settled(0.05) == {"relu": first}


def test_rows_in_another_order_are_noticed() -> None:
    """The check has teeth: the same inputs shuffled are another thing."""
    codes = random_moments(1, 40, 0)[0]
    assert not code_drift([codes, codes]).distances.any()
    assert code_drift([codes, codes.rows(torch.arange(39, -1, -1))]).steps[0] > 0.2


def test_json_and_tables() -> None:
    drift = code_drift(random_moments(4, 5, 0))
    read = json.loads(drift.to_json())
    assert tuple(read["operators"]) == drift.operators and read["distances"] == drift.distances.tolist()
    lines = repr(drift).splitlines()
    assert lines[0].startswith("Drift: 3 operators at 4 moments") and len(lines) == 5
    assert lines[2].split() == ["relu", *(f"{drift.distances[0, i, j]:.4f}" for i, j in ((0, 1), (2, 3), (0, 3)))] + [
        str(drift.settled()["relu"])
    ]
    page = Drift(("<a>",), drift.distances[:1])._repr_html_()
    assert "<td>&lt;a&gt;</td>" in page and page.count("<tr>") == page.count("</tr>") == 2


def test_bad_arguments_are_refused() -> None:
    moments = random_moments(2, 3, 0)
    with pytest.raises(BadInput, match="moments: 1 of them"):
        code_drift(moments[:1])
    with pytest.raises(BadInput, match="other has 2 rows"):
        code_drift([moments[0], moments[1].rows([0, 1])])
    with pytest.raises(BadInput, match="'pool': absent instead of"):
        code_drift([moments[0], Codes({"relu": moments[1]["relu"], "affine": moments[1]["affine"]})])
    for nothing in (Codes({}, batch=3), moments[0].rows([])):
        with pytest.raises(BadInput, match="no input or no operator"):
            code_drift([nothing, nothing])
    for tolerance in (-0.1, 1.5, float("nan")):
        with pytest.raises(BadInput, match="tolerance: .* is outside"):
            code_drift(moments).settled(tolerance)
