"""Sums over patches and segments, against autograd of the untouched module and loops written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._templates import Templates
from tests.zoo.networks import Net

torch.manual_seed(0)
IMAGES = torch.randn(3, 2, 7, 10, dtype=torch.float64)
SIGNALS = torch.randn(3, 2, 20, dtype=torch.float64)


def images(x: Tensor = IMAGES) -> Templates:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 4)).double()
    return ma.capture(model, x).templates(x, names=["a", "b", "c", "d"])


def signals(x: Tensor = SIGNALS) -> Templates:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(54, 4)).double()
    return ma.capture(model, x, smooth="frozen").templates(x)


def products(found: Templates) -> Tensor:
    assert isinstance(found.slopes, Tensor)
    return found.slopes * found.inputs[0].unsqueeze(1)


@pytest.mark.parametrize("size", [(2, 5), (3, 4), 4, 1, (7, 10)])
def test_patches(size: int | tuple[int, int]) -> None:
    """Whole patches and those that the rim cuts off."""
    found = images()
    patches = found.by_patch(size)
    h, w = size if isinstance(size, tuple) else (size, size)
    shares = products(found)
    rows, columns = range(0, 7, h), range(0, 10, w)
    expected = [[shares[..., r : r + h, c : c + w].sum((2, 3, 4)) for c in columns] for r in rows]
    assert_close(patches.parts, torch.stack([torch.stack(row, -1) for row in expected], 2), rtol=1e-12, atol=1e-13)
    assert_close(patches.parts.sum((2, 3)) + patches.offsets, found.values, rtol=1e-12, atol=1e-12)
    assert_close(patches.contributions.sum(), patches.offsets)
    assert repr(patches) == f"Patches: {len(rows)} x {len(columns)} of 4 units at 3 inputs, and b"


@pytest.mark.parametrize("size", [5, (5,), (6,)])
def test_segments(size: int | tuple[int, ...]) -> None:
    found = signals()
    segments = found.by_patch(size)
    length = size if isinstance(size, int) else size[0]
    shares = products(found)
    expected = [shares[..., start : start + length].sum((2, 3)) for start in range(0, 20, length)]
    assert_close(segments.parts, torch.stack(expected, -1), rtol=1e-12, atol=1e-13)
    assert_close(segments.parts.sum(2) + segments.offsets, found.values, rtol=1e-12, atol=1e-12)


def test_segments_of_one_are_positions() -> None:
    found = signals()
    assert torch.equal(found.by_patch((1,)).parts, found.by_position(axis=1).parts)


def test_volumes_and_rows_built_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 1, 4, 4, 6, dtype=torch.float64)
    net = ma.capture(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).double(), x)
    whole = net.templates(x).by_patch((2, 3, 3))
    assert whole.parts.shape == (2, 3, 2, 2, 2)
    monkeypatch.setattr("maxaffine._templates.result.HELD_BYTES", 0)
    assert_close(net.templates(x).by_patch((2, 3, 3)).parts, whole.parts)
    with pytest.raises(ma.BadInput, match=r"size: an input of shape \(1, 4, 4, 6\) is no picture and no signal"):
        net.templates(x).by_patch(2)
    with pytest.raises(ma.BadInput, match="has no plain picture"):
        whole.plot()


@pytest.mark.parametrize("size", [0, -2, 8, (2, 11), (2, 3, 4, 5), (), (1, 0)])
def test_what_does_not_fit(size: int | tuple) -> None:
    with pytest.raises(ma.BadInput, match=r"size: patches of .* do not fit into an input of shape \(2, 7, 10\)"):
        images().by_patch(size)  # pyright: ignore


def test_of_several_inputs_one() -> None:
    model = Net(lambda m, x, y: m.a(x) + m.a(y), a=nn.Linear(8, 2)).double()
    x, y = torch.randn(2, 3, 8, dtype=torch.float64)
    found = ma.capture(model, (x, y)).templates((x, y))
    parts = [found.by_patch(4, input=place).parts.sum(2) for place in (0, 1)]
    assert_close(parts[0] + parts[1] + found.offsets, found.values)
    with pytest.raises(ma.BadInput, match="input: 2 is not one of the 2 places"):
        found.by_patch(4, input=2)


def test_parts_that_do_not_add_up_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxaffine._templates.result.sum_patches", lambda products, sizes: products[..., :3])
    with pytest.raises(ma.ExactnessError, match="the parts miss <A, x>"):
        images().by_patch(2)


def test_patches_are_drawn_over_the_picture() -> None:
    patches = images().by_patch((3, 4))
    axes = patches.plot(1, "c")
    (mesh,) = axes.collections
    assert_close(np.asarray(mesh.get_array()), patches.parts[1, 2].numpy())
    corners = mesh.get_coordinates()  # pyright: ignore
    assert corners[:, 0, 1].tolist() == [-0.5, 2.5, 5.5, 6.5] and corners[0, :, 0].tolist() == [-0.5, 3.5, 7.5, 9.5]
    low, high = mesh.get_clim()
    assert low == -high and high == float(patches.parts[1, 2].abs().max())
    assert axes.get_title().startswith("c\n⟨A, x⟩ + b = ")
    assert patches.plot(0, cmap="PiYG", ax=axes) is axes and axes.collections[-1].get_cmap().name == "PiYG"
    assert patches.plot(size=8.0).figure.get_size_inches()[0] == 8.0  # pyright: ignore
    with pytest.raises(ma.BadInput, match="cmap: 'none such' is not a color map"):
        patches.plot(cmap="none such")
    assert "<th>patches</th>" in patches._repr_html_()
    for arguments, message in (
        ((9,), "sample: 9 is not"),
        ((0, 4), "unit: 4 is not"),
        ((0, "e"), "unit: 'e' is not among"),
    ):
        with pytest.raises(ma.BadInput, match=message):
            patches.plot(*arguments)  # pyright: ignore


def test_segments_are_drawn_behind_the_signal() -> None:
    segments = signals().by_patch(6)
    axes = segments.plot(2, 1)
    (mesh,) = axes.collections
    assert_close(np.asarray(mesh.get_array())[0], segments.parts[2, 1].numpy())
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == SIGNALS[2].tolist()  # pyright: ignore
