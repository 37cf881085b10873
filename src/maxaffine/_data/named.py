"""The data sets that have a name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import as_split, number_names
from .dataset import DataSet, split_by_class
from .idx import members, read_idx

NAMES = ("digits", "fashion-mnist")

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_digits(test_fraction: float, seed: int) -> DataSet:
    """Read scikit-learn's bundled digits: 1797 gray images of 8 x 8 pixels, their sixteen levels divided by 16."""
    # Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998, test part.
    try:
        from sklearn.datasets import load_digits as bundled
    except ModuleNotFoundError as error:
        raise DataError("digits: scikit-learn holds them and is absent; pip install 'maxaffine[data]'") from error
    images, labels = bundled(return_X_y=True)
    inputs = np.asarray(images, dtype=np.float32).reshape(-1, 8, 8) / 16
    whole = as_split(inputs, np.asarray(labels), "digits")
    return split_by_class("digits", whole, tuple("0123456789"), test_fraction, seed)


def load_fashion_mnist(folder: Path | None) -> DataSet:
    """Read Fashion-MNIST: 60,000 training and 10,000 test images of garments, gray, 28 x 28 pixels."""
    # Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    # Algorithms, arXiv 1708.07747, 2017.
    places = [folder] if folder else _usual_places()
    for place in places:
        if place.is_dir() and members(place):
            return load_idx_folder(place, "fashion-mnist", _GARMENTS)
    raise DataError(
        f"fashion-mnist: no IDX files in {' nor in '.join(map(str, places))}; on Debian or Ubuntu `apt-get install "
        "dataset-fashion-mnist`, elsewhere put train-images-idx3-ubyte.gz and its three companions into a folder and "
        "name that folder with folder= or the environment variable MAXAFFINE_DATA"
    )


def load_idx_folder(folder: Path, name: str, class_names: tuple[str, ...] | None = None) -> DataSet:
    """Read an MNIST-like folder of four IDX files; without names the classes are numbered."""
    found = members(folder)
    wanted = [(part, what) for part in ("train", "test") for what in ("images", "labels")]
    if missing := [f"{part} {what}" for part, what in wanted if (part, what) not in found]:
        raise DataError(
            f"{folder}: no file of the {', the '.join(missing)}; the usual names are train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz"
        )
    train, test = (
        as_split(*(read_idx(found[part, what]) for what in ("images", "labels")), where=f"{folder} ({part})")
        for part in ("train", "test")
    )
    return DataSet(name, train, test, class_names or number_names(train, test))


def _usual_places() -> list[Path]:
    """The folder that the environment names, its subfolder for this set, and that of Debian's package."""
    chosen = os.environ.get("MAXAFFINE_DATA")
    own = [Path(chosen).expanduser(), Path(chosen).expanduser() / "fashion-mnist"] if chosen else []
    return [*own, _DEBIAN_FOLDER]
