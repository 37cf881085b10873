"""The cells of the study: what is run once, recorded, and not run again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from studies.cells import Cell

from . import dimensions, faces, garments, mixture

RECIPE = 1  # raised when a recorded cell would come out otherwise
SEEDS = range(5)
SEPARATIONS = (0.5, 1.0, 2.0, 4.0)
LATENTS = (2, 8, 16)


def cells(folder: Path) -> list[Cell]:
    """All of them, the cheap ones first; figures go to the folder."""
    found = [
        Cell(f"dimensions-{seed}", "dimensions", {"seed": seed}, partial(dimensions.measure, seed)) for seed in SEEDS
    ]
    for separation in SEPARATIONS:
        for seed in SEEDS:
            settings = {"seed": seed, "separation": separation}
            found.append(
                Cell(f"mixture-{separation}-{seed}", "mixture", settings, partial(mixture.measure, **settings))
            )
    for latents in LATENTS:
        for seed in SEEDS:
            settings = {"seed": seed, "latents": latents}
            found.append(
                Cell(f"garments-{latents}-{seed}", "garments", settings, partial(garments.measure, **settings))
            )
    return [*found, Cell("faces", "faces", {}, partial(faces.measure, folder))]
