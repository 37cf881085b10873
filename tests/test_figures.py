"""The pictures of the README and of the theory are those that their code draws."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from maxaffine._data import load
from maxaffine.errors import DataError
from website.figures.__main__ import DRAWN, FOLDER, draw

# Of 255 levels, after shrinking: fonts are hinted differently on other machines, and training, which rounds differently
# there, ends in slightly other regions (noise of 1e-6 in the first weights makes a difference of 6).
MEAN_DIFFERENCE = 8.0
TRAINED = {"curvature": 20.0, "hero": 20.0, "lipschitz": 20.0, "regions": 20.0}
SHRUNK = (48, 24)


def _difference(first: Image.Image, second: Image.Image) -> float:
    if first.size != second.size:
        return float("inf")
    pixels = [
        np.asarray(picture.convert("RGB").resize(SHRUNK, Image.Resampling.BOX), float) for picture in (first, second)
    ]
    return float(np.abs(pixels[0] - pixels[1]).mean())


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_what_its_code_draws(name: str) -> None:
    if name == "hero":
        try:
            load("fashion-mnist")
        except DataError as error:
            pytest.skip(str(error))
    with Image.open(FOLDER / f"{name}.png") as kept, Image.open(io.BytesIO(draw(name))) as drawn:
        assert _difference(kept, drawn) < TRAINED.get(name, MEAN_DIFFERENCE)


def test_other_pictures_differ() -> None:
    """The bound above tells pictures apart: two of one size, and a picture from its negative."""
    pictures = [Image.open(io.BytesIO(draw(name))) for name in ("theory-max-affine", "theory-soft")]
    assert pictures[0].size == pictures[1].size
    assert _difference(*pictures) > MEAN_DIFFERENCE
    negative = Image.fromarray(255 - np.asarray(pictures[0].convert("RGB")))
    assert _difference(pictures[0], negative) > max(TRAINED.values())
