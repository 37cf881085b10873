"""The learnable quantizer against distances and gradients by hand, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from examples.vector_quantization.__main__ import main
from examples.vector_quantization.experiment import GRADIENT, KINDS, KMEANS, compare, learn
from examples.vector_quantization.layer import VectorQuantizer
from examples.vector_quantization.patches import cut, drawn, joined, quarters
from maxaffine import BadInput, MaxAffineSpline
from maxaffine._data import load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "vector-quantization.md"


def drawn_layer(codebooks: int, pieces: int, width: int, seed: int) -> tuple[VectorQuantizer, Tensor, Tensor]:
    """A layer on shuffled features, the features, and inputs."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randperm(codebooks * width, generator=generator).view(codebooks, width)
    centroids = torch.randn(codebooks, pieces, width, generator=generator, dtype=torch.float64)
    return (
        VectorQuantizer(centroids, features),
        features,
        torch.randn(20, codebooks * width, generator=generator, dtype=torch.float64),
    )


def by_hand(layer: VectorQuantizer, features: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroids and what they put together, codebook by codebook."""
    codes, values = [], torch.zeros_like(x)
    for unit, seen in enumerate(features):
        centroids = layer.maso.slopes.detach()[unit][:, seen]
        distances = (x[:, None, seen] - centroids).square().sum(2)
        codes.append(distances.argmin(1))
        values[:, seen] = centroids[codes[-1]]
    return torch.stack(codes, dim=1), values


sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 1000))


@given(sizes)
@settings(max_examples=40)
def test_values_codes_and_distortions_are_those_of_nearest_centroids(size: tuple[int, int, int, int]) -> None:
    layer, features, x = drawn_layer(*size)
    codes, values = by_hand(layer, features, x)
    found = layer(x)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.values, values)
    torch.testing.assert_close(found.distortion, (x - values).square().sum(1))


@given(sizes)
@settings(max_examples=20)
def test_the_gradient_is_that_of_k_means(size: tuple[int, int, int, int]) -> None:
    """d/dA[k, r] of the distortion: twice the sum of A[k, r] - x over the inputs nearest to it, on its features."""
    layer, features, x = drawn_layer(*size)
    codes, _ = by_hand(layer, features, x)
    layer(x).distortion.sum().backward()
    expected = torch.zeros_like(layer.maso.slopes)
    for unit, seen in enumerate(features):
        for n, code in enumerate(codes[:, unit].tolist()):
            expected[unit, code, seen] += 2 * (layer.maso.slopes.detach()[unit, code, seen] - x[n, seen])
    assert layer.maso.slopes.grad is not None and layer.maso.offsets.grad is None
    torch.testing.assert_close(layer.maso.slopes.grad, expected)


def test_what_comes_before_learns_as_if_nothing_happened() -> None:
    layer, _, x = drawn_layer(2, 3, 2, 0)
    x.requires_grad_()
    layer(x).values.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * layer(x).values.detach())


def test_untied_offsets_are_noticed() -> None:
    """Without the tie the value is no distortion: the identity that the layer learns by has teeth."""
    layer, _, x = drawn_layer(1, 4, 2, 0)
    loose = MaxAffineSpline(1.5 * layer.maso.slopes, layer.maso.offsets)
    decoded = loose.affine_map(x).slopes[:, 0]
    assert not torch.allclose(x.square().sum(1) - 2 * loose(x)[:, 0], (x - decoded).square().sum(1))


def test_it_learns_and_stays_on_its_features() -> None:
    patches = drawn(load("digits").train, 1500, 4, seed=0)
    starts = torch.stack([patches[:, seen].unique(dim=0)[:16] for seen in quarters(4)])
    layer = VectorQuantizer(starts, quarters(4))
    history = learn(layer, patches, patches, seed=0)
    assert history[-1] < 0.5 * history[0]
    assert not bool((layer.maso.slopes * (1 - layer.seen)).any())
    assert layer.spline().codes(patches).unique(dim=0).shape[0] > 100


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(len(kind.features)))
def test_it_comes_near_k_means(kind) -> None:
    found = compare("digits", kind, seed=1, count=2000)
    assert set(found.distortion) == set(found.layers) and len(found.history) == 21
    assert found.distortion[GRADIENT][0] < 1.2 * found.distortion[KMEANS][0]
    assert found.agreement > 0.999 and found.proved > 0.99


def test_patches_are_windows_of_the_images() -> None:
    split = load("digits").test
    images = np.lib.stride_tricks.sliding_window_view(split.inputs[:, 0].numpy(), (4, 4), axis=(1, 2)).reshape(-1, 16)
    windows = {row.tobytes() for row in images}
    assert all(row.numpy().tobytes() in windows for row in drawn(split, 200, 4, seed=3))
    image = torch.arange(48.0).view(6, 8)
    assert torch.equal(joined(cut(image, 2), 6, 8), image)
    assert cut(image, 2)[1].tolist() == [2, 3, 10, 11]


@pytest.mark.parametrize("features", [[[0, 1], [1, 2]], [[0, 1]], [[0, 1], [2, 4]]])
def test_features_that_are_not_shared_out_are_refused(features: list[list[int]]) -> None:
    with pytest.raises(BadInput, match="share out 0 .. 3 among 2 codebooks"):
        VectorQuantizer(torch.randn(2, 3, 2), torch.tensor(features))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_the_command_writes_the_page_and_its_picture(tmp_path: Path) -> None:
    page = tmp_path / "vector-quantization.md"
    page.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in ("distortion", "agreement")))
    main(["--data", "digits", "--seeds", "2", "--patches", "800", "--docs", str(tmp_path)])
    assert page.read_text().count(f"| {GRADIENT} |") == 2 and "KMeans.predict" in page.read_text()
    with Image.open(tmp_path / "images" / "vector-quantization.png") as picture:
        assert picture.size == (1100, 640) and len(set(picture.convert("L").tobytes())) > 100


def test_the_page_shows_every_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:one|four) codebooks? .*\|$", text, re.MULTILINE)
    assert len(rows) == 6 and all(row.count("±") == 3 for row in rows)
