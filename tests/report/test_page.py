"""What the page says when a report is unusual; the usual one is read in tests/test_cli.py."""

from __future__ import annotations

import dataclasses
import json
import math

import torch

from maxaffine.network import ExactnessReport
from maxaffine.report import Contents, as_json, as_text
from maxaffine.report.facts import Check
from maxaffine.report.page import render


def _wrong(contents: Contents) -> Contents:
    bad = ExactnessReport(0.5, math.inf, 0.0, 0.0, 1e-6, 64, torch.float32)
    return dataclasses.replace(contents, checks=(Check("float32", bad), Check("float64", None, "it <cannot>")))


def test_class_names_are_escaped(contents: Contents) -> None:
    page = render(contents)
    assert "$low$ &lt;b&gt;" in page
    assert "$low$ <b>" not in page


def test_an_inexact_network_is_called_so(contents: Contents) -> None:
    page, exact = render(_wrong(contents)), render(contents)
    assert "Not exact." in page and "✗ not exact" in page and "✓ Exact." not in page
    assert "Not checked in float64: it &lt;cannot&gt;." in page
    assert "✓ Exact." in exact and "Not exact." not in exact


def test_a_split_that_does_not_add_up_is_marked(contents: Contents) -> None:
    one = contents.explanations[0]
    split = dataclasses.replace(one.splits[0], residual=0.25)
    broken = dataclasses.replace(one, splits=(split, *one.splits[1:]))
    page = render(dataclasses.replace(contents, explanations=(broken,)))
    assert "2.5e−01 ✗" in page and "Not exact." in page


def test_parts_without_content_are_left_out(contents: Contents) -> None:
    page = render(dataclasses.replace(contents, neighbours=None, accuracy=None, convex=True))
    assert "nearest training inputs" not in page and "#neighbours" not in page
    assert "not applicable" in page and "provably convex" in page


def test_json_holds_no_pictures_and_is_strict(contents: Contents) -> None:
    text = as_json(_wrong(contents))
    found = json.loads(text, parse_constant=lambda name: math.nan)
    assert found["exact"] is False
    assert found["checks"][0]["report"]["affine"] == "inf"
    assert found["checks"][0]["report"]["dtype"] == "float32"
    assert "template" not in found["explanations"][0]["splits"][0]
    assert found["neighbours"]["queries"][0]["layers"][0][1][0]["distance"] >= 0
    assert "Infinity" not in text and '"source"' not in text


def test_text_sums_up(contents: Contents) -> None:
    lines = as_text(_wrong(contents)).splitlines()
    assert lines[0] == "a network: drawn at random"
    assert lines[1].startswith("test accuracy: ")
    assert lines[2] == "operators: 7, 3 of them piecewise affine with 188 units"
    assert lines[3].startswith("NOT exact on 64 inputs") and lines[4] == "not checked in float64: it <cannot>"
