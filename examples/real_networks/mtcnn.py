"""MTCNN's last network on a face: the templates of "face" and of single landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import maxaffine as ma
from examples.real_networks.measuring import exactness_table, facts, measure, only, timed
from examples.real_networks.photographs import FACE, network_input, photograph, square
from examples.real_networks.pictures import Sheet
from examples.real_networks.published import mtcnn

SIDE, SCALE, GAP = 48, 5, 14
LAST = "dense6_1"
# Of each landmark (eyes, nose, corners of the mouth) the x, then of each the y, as shares of the square.
SHOWN = {"eye, x": 0, "nose, y": 7, "mouth corner, x": 4}


def study(images: Path) -> str:
    """Draw the picture and measure.

    Args:
        images: The folder of the picture.

    Returns:
        Markdown for the page.
    """
    module = mtcnn("ONet")
    picture = square(photograph("astronaut"), FACE, SIDE)
    x = network_input(picture, middle=127.5)
    measured = measure("MTCNN's ONet before its softmax", module, x, LAST)
    net, x = measured.net, x.float()
    amap = net.affine_map(x)
    template, measured.seconds["template"] = timed(lambda: only(amap.rmv(torch.tensor([[-1.0, 1.0]]))))
    offset = float(amap.offsets[0, 1] - amap.offsets[0, 0])
    inner = float((template * x).sum())
    landmarks = ma.capture(module, x, output="pre_activation").affine_map(x, output=1)
    _draw(picture, template[0], landmarks, images / "mtcnn.png")
    split = f"Face against no face: <A, x> + b = {inner:.3f} + {offset:.3f} = {inner + offset:.3f}.\n"
    return "\n".join([facts(measured), exactness_table(measured), split])


def _draw(picture: np.ndarray, template: Tensor, landmarks: ma.AffineMap, file: Path) -> None:
    side = SIDE * SCALE
    sheet = Sheet(3 * (side + GAP) + 6, 2 * (side + 66))
    lefts = [10 + place * (side + GAP) for place in range(3)]
    axes = sheet.picture(lefts[0], 28, side, picture, "face x, with the landmarks found")
    found = landmarks.value[0].numpy() * SIDE - 0.5
    axes.plot(found[:5], found[5:], "+", color="#00e5ff", markersize=11, markeredgewidth=2)
    sheet.signed(lefts[1], 28, side, template.sum(0), "template of “face” − “no face”")
    sheet.magnitude(lefts[2], 28, side, template.norm(dim=0), "the template's length per pixel")
    for left, (name, number) in zip(lefts, SHOWN.items(), strict=True):
        sheet.signed(left, side + 94, side, only(landmarks.slopes)[0, number].sum(0), f"template of “{name}”")
    sheet.save(file)
