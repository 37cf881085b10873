"""The trainings of the study, and what is counted of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine import Codes, capture
from maxaffine.codes import RegionHierarchy, region_hierarchy
from maxaffine.data import DataSet, Split, load
from maxaffine.learning import CodeDrift
from maxaffine.models import accuracy, build, train

# Changed whenever the recipe of a run changes, so that results of different recipes are never mixed.
RECIPE = 1
DATA = ("digits", "fashion-mnist")
NETWORKS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "narrow MLP": ("mlp", {"widths": (8, 8, 8, 8)}),
        "wide MLP": ("mlp", {"widths": (128, 128, 128, 128)}),
        "CNN": ("cnn", {"channels": (8, 16), "hidden": 32}),
    }
)
SEEDS = (0, 1, 2)
TRAINING, LEARNING_RATE = 12_000, 2e-3
EPOCHS: Mapping[str, int] = MappingProxyType({"digits": 12, "fashion-mnist": 8})
BATCH: Mapping[str, int] = MappingProxyType({"digits": 8, "fashion-mnist": 64})
# Held-out inputs that regions are counted on, and those among them whose codes are followed through the training.
COUNTED, FOLLOWED = 2000, 500
# Held-out inputs in the pictures.
SHOWN = 1000
# Units drawn from every operator, to compare operators that are not equally wide; how often they are drawn.
DRAWN, DRAWS = 8, 10


@dataclass(frozen=True)
class Run:
    """One training."""

    data: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        """Its name as a file."""
        return f"{self.data}-{self.network.lower().replace(' ', '-')}-{self.seed}"


def runs() -> list[Run]:
    """Every training, seed by seed."""
    return [Run(data, network, seed) for seed in SEEDS for data in DATA for network in NETWORKS]


def measured(run: Run) -> dict[str, Any]:
    """Train one network and count its regions before and after."""
    whole, model = _begun(run)
    test = whole.test.take(slice(0, COUNTED))
    drift, accuracies = CodeDrift(test.inputs[:FOLLOWED]), []

    def record(_: object = None) -> None:
        drift.record(model)
        accuracies.append(round(accuracy(model, test), 4))

    record()
    found = {"untrained": _counted(model, test, run.seed)}
    _train(run, model, whole, record)
    found["trained"] = _counted(model, test, run.seed)
    distances = {name: _rounded(rows) for name, rows in zip(*_by_operator(drift), strict=True)}
    return {"recipe": RECIPE, "run": asdict(run), "accuracy": accuracies, "drift": distances, **found}


def trees(run: Run) -> tuple[tuple[str, ...], tuple[RegionHierarchy, RegionHierarchy]]:
    """The hierarchies of one network's regions before and after its training."""
    whole, model = _begun(run)
    test = whole.test.take(slice(0, SHOWN))
    before = region_hierarchy(_codes(model, test.inputs), test.labels)
    _train(run, model, whole, lambda _: None)
    return whole.class_names, (before, region_hierarchy(_codes(model, test.inputs), test.labels))


def few_units(codes: Codes, labels: Tensor, seed: int) -> dict[str, dict[str, float | None]]:
    """The occupancy by a few units of each operator alone, averaged over several draws."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, dict[str, float | None]] = {}
    for name, packed in codes.items():
        values = packed.unpack().flatten(1)
        draws = [torch.randperm(values.shape[1], generator=generator)[:DRAWN] for _ in range(DRAWS)]
        levels = [
            region_hierarchy(Codes.from_tensors({name: (values[:, drawn], packed.pieces)}, len(values)), labels)
            .levels[0]
            .itself
            for drawn in draws
        ]
        purities = [level.pair_purity for level in levels if level.pair_purity is not None]
        found[name] = {
            "regions": sum(level.regions for level in levels) / DRAWS,
            "entropy": sum(level.entropy for level in levels) / DRAWS,
            "pair_purity": sum(purities) / DRAWS if len(purities) == DRAWS else None,
        }
    return found


def _begun(run: Run) -> tuple[DataSet, nn.Module]:
    whole = load(run.data)
    factory, options = NETWORKS[run.network]
    return whole, build(factory, whole.input_shape, whole.classes, seed=run.seed, **options).eval()


def _train(run: Run, model: nn.Module, whole: DataSet, after_epoch: Callable[[object], None]) -> None:
    train(
        model,
        whole.train.take(slice(0, TRAINING)),
        epochs=EPOCHS[run.data],
        batch_size=BATCH[run.data],
        lr=LEARNING_RATE,
        seed=run.seed,
        progress=False,
        after_epoch=after_epoch,
    )


def _counted(model: nn.Module, test: Split, seed: int) -> dict[str, Any]:
    codes = _codes(model, test.inputs)
    levels = region_hierarchy(codes, test.labels).levels
    few = few_units(codes, test.labels, seed)
    return {
        level.operator: {
            "units": level.units,
            "pieces": level.pieces,
            "together": _plain(vars(level.together)),
            "itself": _plain(vars(level.itself)),
            "few": _plain(few[level.operator]),
        }
        for level in levels
    }


def _codes(model: nn.Module, inputs: Tensor) -> Codes:
    batches = inputs.split(256)
    return capture(model, batches[0]).codes(iter(batches), progress=False)


def _by_operator(drift: CodeDrift) -> tuple[tuple[str, ...], Tensor]:
    result = drift.result(progress=False)
    return result.operators, result.distances


def _rounded(rows: Tensor) -> list[list[float]]:
    return [[round(value, 5) for value in row] for row in rows.tolist()]


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in numbers.items() if name != "ids"}
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in kept.items()}
