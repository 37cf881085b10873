"""Meshes as the page gets them: the same polygons up to the rounding that is said, and never more than it can turn."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import pytest

from maxaffine._drawing import Solid

KINDS = {"points": "<u2", "corners": "<u4", "counts": "<u2", "normals": "i1", "parts": "<u2"}


def _sphere(side: int, stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Solid:
    """A sphere of quadrilaterals, whose normals point outwards."""
    around, down = np.linspace(0, 2 * np.pi, 2 * side, endpoint=False), np.linspace(0.01, np.pi - 0.01, side)
    a, b = np.meshgrid(around, down)
    points = np.stack([np.cos(a) * np.sin(b), np.sin(a) * np.sin(b), np.cos(b)], -1).reshape(-1, 3)
    number = np.arange(len(points)).reshape(side, -1)
    beside = np.roll(number, -1, 1)
    corners = np.stack([number[:-1], beside[:-1], beside[1:], number[1:]], -1).reshape(-1, 4)
    normals = points[corners].mean(1) / np.array(stretch)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Solid(points * stretch, corners.ravel(), np.full(len(corners), 4), normals, np.arange(len(corners)) % 2)


def _read(view: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    content = json.loads(view.split('<script type="application/json">')[1].split("</script>")[0])
    arrays = {name: np.frombuffer(base64.b64decode(content["data"][name]), kind) for name, kind in KINDS.items()}
    return content, arrays


def _area(places: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (places[triangles[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_polygons_arrive_up_to_rounding() -> None:
    solid = _sphere(20)
    content, arrays = _read(solid.view("a sphere", 10_000))
    low, high = np.array(content["low"]), np.array(content["high"])
    places = low + arrays["points"].reshape(-1, 3) / 65535 * (high - low)
    assert np.abs(places - solid.vertices).max() <= (high - low).max() / 65535
    assert np.array_equal(arrays["corners"], solid.corners) and np.array_equal(arrays["counts"], solid.counts)
    assert np.abs(arrays["normals"].reshape(-1, 3) / 127 - solid.normals).max() < 0.01
    assert content["count"] == 2 and "implified" not in content["rest"] and "scale of its own" not in content["rest"]


def test_features_of_other_sizes_get_scales_of_their_own_and_normals_with_them() -> None:
    content, arrays = _read(_sphere(20, (1.0, 50.0, 0.01)).view("an ellipsoid", 10_000))
    assert content["sizes"] == [1, 1, 1] and "Each axis has a scale of its own" in content["rest"]
    # In these scales it is a sphere again.
    assert np.abs(arrays["normals"].reshape(-1, 3) / 127 - _sphere(20).normals).max() < 0.02


def test_what_is_flat_and_what_is_empty_is_drawn() -> None:
    square = np.array([[0.5, 0, 0], [0.5, 1, 0], [0.5, 1, 1], [0.5 + 1e-16, 0, 1]])
    flat = Solid(square, np.arange(4), np.array([4]), np.array([[1.0, 0, 0]]), np.zeros(1, dtype=int))
    content, arrays = _read(flat.view("a square", 10))
    assert content["sizes"] == [1e-3, 1, 1] and content["low"][0] == pytest.approx(content["high"][0])
    assert arrays["normals"].tolist() == [127, 0, 0] and "scale of its own" not in content["rest"]
    none = np.zeros((0, 3))
    empty = Solid(none, np.zeros(0, dtype=int), np.zeros(0, dtype=int), none, np.zeros(0, dtype=int))
    content, arrays = _read(empty.view("nothing", 10))
    assert not any(len(item) for item in arrays.values()) and content["low"] == [0, 0, 0]


@pytest.mark.parametrize("most", [700, 2000])
def test_of_more_polygons_a_coarser_mesh_is_drawn_and_that_is_said(most: int) -> None:
    solid = _sphere(60)
    view = solid.view("a sphere", most)
    content, arrays = _read(view)
    found = len(arrays["counts"])
    assert most / 4 < found <= most and (arrays["counts"] == 3).all()
    assert f"{found:,} triangles" in content["rest"] and f"{len(solid.counts):,} polygons" in content["rest"]
    places, triangles = arrays["points"].reshape(-1, 3) / 65535 * 2 - 1, arrays["corners"].reshape(-1, 3)
    assert _area(places, triangles) == pytest.approx(4 * np.pi, rel=0.1)
    outward = (arrays["normals"].reshape(-1, 3) * places[triangles].mean(1)).sum(1)
    assert (outward > 0).mean() > 0.99


def test_the_page_needs_nothing_else_and_runs_its_own_script_alone() -> None:
    page = _sphere(4).page("<title> & more", ["It is {data} and </script>."], 100)
    assert "<title> & more</title>" not in page and "&lt;title&gt; &amp; more" in page and "{data} and &lt;" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://|import\(|fetch\(", page)
    assert page.count("<script") == 2 and "default-src 'none'" in page
    frame = _sphere(4).frame("a sphere", [], 100)
    assert frame.startswith("<iframe srcdoc=") and frame.count("<") == 2
