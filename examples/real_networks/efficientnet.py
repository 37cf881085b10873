"""EfficientNet-Lite0: the template of the top class beside the photograph, and the logits split into <A, x> and b."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import maxaffine as ma
from examples.real_networks.measuring import exactness_table, facts, markdown, measure, only, timed
from examples.real_networks.photographs import central_square, network_input, photograph
from examples.real_networks.pictures import Sheet
from examples.real_networks.published import efficientnet_lite0

SIDE, PATCH = 224, 8
# The names of the ImageNet classes that are among the top five of the photographs.
CLASSES = {
    281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 287: "lynx", 504: "coffee mug", 518: "crash helmet",
    535: "disk brake", 665: "moped", 670: "motor scooter", 728: "plastic bag", 809: "soup bowl", 865: "toyshop",
    925: "consomme", 967: "espresso", 968: "cup",
}  # fmt: skip
PHOTOGRAPHS = ("coffee", "motorcycle", "cat")


def study(images: Path) -> str:
    """Draw the pictures and measure.

    Args:
        images: The folder of the pictures.

    Returns:
        Markdown for the page.
    """
    module = efficientnet_lite0()
    pictures = [central_square(photograph(name), SIDE) for name in PHOTOGRAPHS]
    x = torch.cat([network_input(picture, middle=127) for picture in pictures])
    measured = measure("EfficientNet-Lite0 at 224 pixels", module, x[:1], None)
    net, x = measured.net, x.float()
    top = int(net(x[:1]).argmax())
    _, measured.seconds["template of one class"] = timed(lambda: net.affine_map(x[:1], outputs=[top]).slopes)
    memory = _walk(net, x[:1])
    rows = []
    for name, picture, sample in zip(PHOTOGRAPHS, pictures, x.split(1), strict=True):
        best = net(sample)[0].topk(5).indices
        amap = net.affine_map(sample, outputs=best)
        slopes = only(amap.slopes)[0]
        inner = (slopes * sample).flatten(1).sum(1)
        splits = list(zip(best.tolist(), inner.tolist(), amap.offsets[0].tolist(), strict=True))
        _draw(picture, sample[0], slopes[0], splits, images / f"efficientnet-lite0-{name}.png")
        rows += [[name, *_cells(split)] for split in splits]
    split_table = markdown(["photograph", "class", "<A_c, x>", "b_c", "logit"], rows)
    return "\n".join([facts(measured), exactness_table(measured), memory, split_table])


def _walk(net: ma.SplineNetwork, x: Tensor) -> str:
    """The process's peak memory before and after walking over the rows of the 1000-class map."""
    amap = net.affine_map(x)
    before, blocks = _peak(), 0
    for _ in amap.rows():
        blocks += 1
    whole = amap.value.numel() * x.numel() * x.element_size() / 2**20
    return (
        f"Walking over the templates of all 1000 classes with `rows()`, in {blocks} blocks, raised the process's peak"
        f" memory by {_peak() - before:.0f} MiB, from {before:.0f} MiB; all of them at once are {whole:.0f} MiB.\n"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cells(split: tuple[int, float, float]) -> list[str]:
    number, inner, offset = split
    return [CLASSES.get(number, f"class {number}"), f"{inner:.3f}", f"{offset:.3f}", f"{inner + offset:.3f}"]


def _draw(picture: np.ndarray, x: Tensor, template: Tensor, splits: list[tuple[int, float, float]], file: Path) -> None:
    sheet = Sheet(4 * SIDE + 3 * 14 + 20 + 360, SIDE + 66)
    name = _cells(splits[0])[0]
    lefts = [10 + place * (SIDE + 14) for place in range(4)]
    sheet.picture(lefts[0], 28, SIDE, picture, "photograph x")
    sheet.signed(lefts[1], 28, SIDE, template.sum(0), f"its template A of “{name}”")
    sheet.magnitude(lefts[2], 28, SIDE, template.norm(dim=0), "the template's length per pixel")
    shares = (template * x).sum(0).unflatten(0, (-1, PATCH)).unflatten(2, (-1, PATCH)).sum((1, 3))
    sheet.signed(lefts[3], 28, SIDE, shares, f"each {PATCH}×{PATCH} patch's share of ⟨A, x⟩", shown=1)
    named = [(_cells(split)[0], *split[1:]) for split in splits]
    sheet.logits(lefts[3] + SIDE + 106, 28, 150, SIDE, named)
    sheet.save(file)
