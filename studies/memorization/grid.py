"""What is run: data, share of random labels, training set size, weight decay and seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

# Fashion-MNIST is halved to 14 x 14 pixels, which makes the study four times as fast.
DATA = ("digits", "fashion-mnist 14x14")
SIZES = (100, 300, 1000)
# Share of random labels and weight decay of AdamW.
TREATMENTS = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (0.0, 1.0), (1.0, 1.0))
SEEDS = 3


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        data: Name of the data set.
        size: Number of training images.
        random: Share of the images, training and test, whose label is drawn at random.
        decay: Weight decay of AdamW.
        seed: Seed of all that is random.
    """

    data: str
    size: int
    random: float
    decay: float
    seed: int

    def key(self) -> dict[str, Any]:
        """The entries by name."""
        return asdict(self)


def runs() -> Iterator[Run]:
    """Every training, seed after seed, so that what is finished is whole from the beginning."""
    for seed in range(SEEDS):
        for data in DATA:
            for size in SIZES:
                for random, decay in TREATMENTS:
                    yield Run(data, size, random, decay, seed)
