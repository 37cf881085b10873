"""A vision transformer and a ConvNeXt trained on Fashion-MNIST: garments, their templates, and what each patch adds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.pictures import Sheet
from examples.smooth_networks.measuring import Row, kept, measure

SHAPE, CLASSES = (1, 28, 28), 10
TRAINED, EPOCHS = 20_000, 5
SIDE, PATCH, GAP = 112, 4, 16
SHOWN = (9, 1, 5, 8)  # ankle boot, trouser, sandal, bag: the first test image of each is shown
TITLES = {"vit": "ViT", "convnext": "ConvNeXt"}


def learn(model: nn.Module) -> None:
    """Train on the first garments.

    Args:
        model: The network.
    """
    train = ma.data.load("fashion-mnist").train
    split = replace(train, inputs=train.inputs[:TRAINED], labels=train.labels[:TRAINED])
    ma.models.train(model, split, epochs=EPOCHS)


def study(images: Path, weights: Path, name: str) -> Row:
    """Train, measure and draw.

    Args:
        images: The folder of the picture.
        weights: The folder of the trained weights.
        name: ``"vit"`` or ``"convnext"``.

    Returns:
        The row of the page's table.
    """
    model = kept(partial(ma.models.build, name, SHAPE, CLASSES, seed=0), learn, weights / f"{name}.safetensors")
    data = ma.data.load("fashion-mnist")
    quality = f"{ma.models.accuracy(model, data.test):.1%} of garments right"
    chosen = [int((data.test.labels == label).nonzero()[0]) for label in SHOWN]
    draw(model, data.test.inputs[chosen], list(data.class_names), images / f"smooth-{name}.png")
    if name == "vit":
        draw_patches(
            model, data.test.inputs[chosen[::3]], list(data.class_names), images / f"smooth-{name}-patches.png"
        )
    return measure(TITLES[name], model, data.test.inputs[:8], quality)


def draw(model: nn.Module, x: Tensor, names: list[str], file: Path) -> None:
    """Draw each image, the template of its best class, that class's row of the Jacobian, its patches' shares, and b.

    Args:
        model: The network.
        x: Images (N, 1, H, W).
        names: The classes.
        file: The picture.
    """
    found = ma.capture(model, x, smooth="frozen").templates(x, names=names)
    patches = found.by_patch(PATCH).parts
    jacobian = only(ma.capture(model, x, smooth="tangent").affine_map(x).slopes)
    lefts = [10 + place * (SIDE + GAP) for place in range(4)]
    row = SIDE + 50
    sheet = Sheet(lefts[3] + SIDE + GAP + 330, 8 + len(x) * row)
    for place, image in enumerate(x):
        best = int(found.values[place].argmax())
        template = only(found.slopes)[place, best, 0]
        top = 26 + place * row
        sheet.picture(lefts[0], top, SIDE, (1 - image.movedim(0, -1).expand(-1, -1, 3)).numpy(), names[best])
        sheet.signed(lefts[1], top, SIDE, template, "its template A")
        sheet.signed(lefts[2], top, SIDE, jacobian[place, best, 0], "the Jacobian J")
        sheet.signed(lefts[3], top, SIDE, patches[place, best], "shares of ⟨A, x⟩", shown=1)
        ranked = found.values[place].topk(3).indices.tolist()
        splits = [(names[c], float(found.inner[place, c]), float(found.offsets[place, c])) for c in ranked]
        sheet.logits(lefts[3] + SIDE + GAP + 70, top, 130, SIDE, splits)
    sheet.save(file)


def draw_patches(model: nn.Module, x: Tensor, names: list[str], file: Path) -> None:
    """Draw, over each image, what its patches add to the two largest logits.

    Args:
        model: The network.
        x: Images (N, 1, H, W).
        names: The classes.
        file: The picture.
    """
    patches = ma.capture(model, x, smooth="frozen").templates(x, names=names).by_patch(PATCH)
    ranked = patches.values.topk(2).indices.tolist()
    shown = [(sample, unit) for sample, units in enumerate(ranked) for unit in units]
    figure = Figure(figsize=(2.6 * len(shown), 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (sample, unit) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        patches.plot(sample, unit, ax=ax)
        ax.title.set_fontsize(8)
    figure.savefig(file, dpi=100)
