"""The DCGAN generator: how single latent directions move a face, and how far the local map carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import exactness_table, facts, measure, timed
from examples.real_networks.pictures import Sheet
from examples.real_networks.published import dcgan_generator

LAST = "main.12"
LATENTS, SIDE, GAP = 100, 128, 12
SEED = 1
SHOWN = 3
# How far the face is moved: along one latent number, and along a unit direction that moves it most.
STEP, SINGULAR_STEP = 2, 0.5


def study(images: Path) -> str:
    """Draw the picture and measure.

    Args:
        images: The folder of the picture.

    Returns:
        Markdown for the page.
    """
    module = dcgan_generator()
    z = torch.randn(1, LATENTS, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    measured = measure("DCGAN generator before its tanh", module, z, LAST)
    columns, measured.seconds["all 100 columns of A"] = timed(lambda: _columns(measured.net, z.float()))
    _draw(module, measured.net, z.float(), columns, images / "dcgan.png")
    return "\n".join([facts(measured), exactness_table(measured)])


def _columns(net: ma.SplineNetwork, z: Tensor) -> Tensor:
    """A e_i for every latent number i, (100, 3, 64, 64): one product with as many copies of z."""
    return net.affine_map(z.expand(LATENTS, -1, -1, -1)).mv(torch.eye(LATENTS)[:, :, None, None])


def _draw(module: nn.Module, net: ma.SplineNetwork, z: Tensor, columns: Tensor, file: Path) -> None:
    left = SIDE + 3 * GAP
    tops = [28, SIDE + 60, 2 * SIDE + 84]
    sheet = Sheet(left + 2 * SHOWN * (SIDE + GAP), tops[2] + SIDE + 8)
    value = net(z)[0]
    sheet.picture(10, tops[0], SIDE, _face(value), "the face g(z)")
    sheet.text(10, tops[1] + SIDE // 2, "the map at z:\ntanh(A (z + v) + b)", va="center")
    sheet.text(10, tops[2] + SIDE // 2, "the generator:\ng(z + v)", va="center")
    for place, (name, v) in enumerate(_directions(columns)):
        moved = (columns.flatten(1).T @ v).view_as(value)
        at = left + place * (SIDE + GAP)
        sheet.signed(at, tops[0], SIDE, moved.mean(0), f"A v, v = {name}")
        sheet.picture(at, tops[1], SIDE, _face(value + moved))
        with torch.no_grad():
            sheet.picture(
                at, tops[2], SIDE, _shown(module(z + v.view_as(z))[0]), f"{_changed(net, z, v):.0%} of codes differ"
            )
    sheet.save(file)


def _directions(columns: Tensor) -> list[tuple[str, Tensor]]:
    """The latent numbers that move the face most, then the unit directions that do: A's right singular vectors."""
    strongest = columns.flatten(1).norm(dim=1).topk(SHOWN).indices.tolist()
    _, _, right = torch.linalg.svd(columns.flatten(1).T, full_matrices=False)
    basis = STEP * torch.eye(LATENTS)
    numbered = [(f"{STEP} e$_{{{number}}}$", basis[number]) for number in strongest]
    return numbered + [(f"{SINGULAR_STEP} s$_{place + 1}$", SINGULAR_STEP * right[place]) for place in range(SHOWN)]


def _changed(net: ma.SplineNetwork, z: Tensor, v: Tensor) -> float:
    """The share of units that lie on another piece at z + v."""
    here, there = (net.codes(point) for point in (z, z + v.view_as(z)))
    differing = [here[name].unpack() != there[name].unpack() for name in here]
    return float(torch.cat([item.flatten() for item in differing]).double().mean())


def _face(value: Tensor) -> np.ndarray:
    return _shown(value.tanh())


def _shown(face: Tensor) -> np.ndarray:
    return ((face.permute(1, 2, 0) + 1) / 2).numpy()
