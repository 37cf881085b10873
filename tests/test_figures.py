"""The pictures of the README and of the theory are those that their code draws."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from docs.figures.__main__ import DRAWN, FOLDER, draw
from maxaffine.data import load
from maxaffine.errors import DataError

# Of 255 levels. Training rounds differently on other machines, and fonts are hinted differently.
MEAN_DIFFERENCE = 8.0


def _difference(first: Image.Image, second: Image.Image) -> float:
    if first.size != second.size:
        return float("inf")
    return float(np.abs(np.asarray(first.convert("RGB"), float) - np.asarray(second.convert("RGB"), float)).mean())


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_what_its_code_draws(name: str) -> None:
    if name == "hero":
        try:
            load("fashion-mnist")
        except DataError as error:
            pytest.skip(str(error))
    with Image.open(FOLDER / f"{name}.png") as kept, Image.open(io.BytesIO(draw(name))) as drawn:
        assert _difference(kept, drawn) < MEAN_DIFFERENCE


def test_other_pictures_differ() -> None:
    """The bound above tells pictures apart: two of one size, and a picture from its negative."""
    pictures = [Image.open(io.BytesIO(draw(name))) for name in ("theory-max-affine", "theory-soft")]
    assert pictures[0].size == pictures[1].size
    assert _difference(*pictures) > MEAN_DIFFERENCE
    negative = Image.fromarray(255 - np.asarray(pictures[0].convert("RGB")))
    assert _difference(pictures[0], negative) > MEAN_DIFFERENCE
