"""The full grid of the study in one table, in the order of running: the most telling and cheapest cells first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

SEEDS = range(5)
# How a cell is trained. Numbers name recipes for good, so that results of different ones are never mixed: ours, and
# that of the public script of the penalty's authors (github.com/RandallBalestriero/OMASO), which repeats it ten times.
OURS, SCRIPT = RECIPES = (1, 2)
SCRIPT_SEEDS = range(10)


@dataclass(frozen=True)
class Form:
    """One way of training: which form of the penalty (or none), and its weight lambda."""

    on: str
    compare: str = ""
    weight: float = 0.0


@dataclass(frozen=True)
class Cell:
    """What the forms are compared within."""

    task: str
    model: str
    size: int
    batch_norm: bool
    recipe: int = OURS

    @property
    def seeds(self) -> range:
        """The seeds of its trainings."""
        return SCRIPT_SEEDS if self.recipe == SCRIPT else SEEDS


@dataclass(frozen=True)
class Run:
    """One training."""

    cell: Cell
    form: Form
    seed: int

    def key(self) -> dict[str, Any]:
        """The configuration, flat, as it is stored."""
        return {**asdict(self.cell), **asdict(self.form), "seed": self.seed}


@dataclass(frozen=True)
class Block:
    """A row of the table: every combination of its entries."""

    task: str
    models: tuple[str, ...]
    sizes: tuple[int, ...]
    batch_norm: tuple[bool, ...]
    forms: tuple[Form, ...]
    recipe: int = OURS

    def cells(self) -> Iterator[Cell]:
        """Its cells, in order."""
        for size in self.sizes:
            for model in self.models:
                for norm in self.batch_norm:
                    yield Cell(self.task, model, size, norm, self.recipe)


WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0)
NONE = (Form("none"),)
ROWS = (*NONE, *(Form("classifier", "products", weight) for weight in WEIGHTS))
FEW = (*NONE, *(Form("classifier", "products", weight) for weight in (0.1, 1.0, 10.0)))
TINY = (*NONE, Form("classifier", "products", 0.001))
HARD = (*NONE, Form("hard"))
MAPS = (*NONE, *(Form("maps", "cosines", weight) for weight in (0.01, 0.1, 1.0)))
# The script's weights 0, 1/3, 2/3, 1 are of the mean over all 10 x 10 pairs of classes, ours of the sum over them.
TEMPLATES = (*NONE, *(Form("maps", "products", part / 300) for part in (1, 2, 3)))
CENTROIDS = (*NONE, *(Form("centroids", "cosines", weight) for weight in (0.01, 0.1, 1.0)))
OTHER = (*NONE, *(Form("classifier", "cosines", w) for w in WEIGHTS), *(Form("maps", "products", w) for w in WEIGHTS))

WITH, WITHOUT, BOTH = (True,), (False,), (True, False)
ALL = ("mlp", "cnn-small", "cnn-large", "resnet")
SMALL = ("mlp", "cnn-small")
LARGE = ("cnn-large", "resnet")

GRID = (
    #     task                  networks        training sizes   batch-norm  forms
    Block("digits",              SMALL,          (200,),          BOTH,       ROWS),
    Block("fashion-mnist",       ("cnn-small",), (500,),          WITH,       ROWS),
    Block("digit-pairs",         ("cnn-small",), (2000,),         WITH,       ROWS),
    Block("fashion-mnist",       ("mlp",),       (500, 2000),     WITHOUT,    ROWS),
    Block("fashion-mnist",       ("cnn-small",), (500,),          WITH,       HARD),
    Block("digit-pairs",         ("cnn-small",), (2000,),         WITH,       HARD),
    Block("digit-pairs",         ("mlp",),       (2000,),         WITHOUT,    ROWS),
    Block("fashion-mnist",       ("cnn-small",), (500,),          WITH,       MAPS),
    Block("fashion-mnist-pairs", ("cnn-small",), (5000,),         WITH,       FEW),
    Block("digits",              ("resnet",),    (200,),          WITH,       FEW),
    Block("fashion-mnist",       ("cnn-large",), (500,),          WITH,       FEW),
    Block("fashion-mnist",       ("mlp",),       (55000,),        WITHOUT,    FEW),
    Block("fashion-mnist",       ("resnet",),    (500,),          WITH,       FEW),
    Block("fashion-mnist",       ("cnn-small",), (55000,),        WITH,       FEW),
    Block("digits",              ("resnet",),    (200,),          WITH,       ROWS),
    Block("digit-pairs",         ("cnn-small",), (10000,),        WITH,       ROWS),
    Block("fashion-mnist",       ("mlp",),       (10000,),        WITHOUT,    ROWS),
    Block("digits",              ("cnn-large",), (200,),          WITH,       ROWS),
    Block("fashion-mnist",       ("cnn-small",), (2000,),         WITH,       ROWS),
    Block("fashion-mnist",       ("cnn-small",), (500,),          WITHOUT,    ROWS),
    Block("fashion-mnist-pairs", ("cnn-small",), (5000,),         WITH,       ROWS),
    Block("digits",              ALL,            (1000,),         BOTH,       ROWS),
    Block("fashion-mnist",       ("cnn-small",), (10000,),        WITH,       ROWS),
    Block("fashion-mnist",       SMALL,          (55000,),        WITH,       ROWS),
    Block("digits",              LARGE,          (200,),          WITHOUT,    ROWS),
    Block("digit-pairs",         ALL,            (2000, 10000),   BOTH,       ROWS),
    Block("fashion-mnist",       LARGE,          (500,),          WITH,       ROWS),
    Block("digits",              ALL,            (200, 1000),     BOTH,       HARD),
    Block("digits",              ALL,            (200,),          BOTH,       MAPS),
    Block("fashion-mnist",       ("cnn-small",), (500, 2000),     WITH,       OTHER),
    Block("fashion-mnist",       SMALL,          (500, 2000, 10000), BOTH,    ROWS),
    Block("fashion-mnist-pairs", ALL,            (5000, 50000),   BOTH,       ROWS),
    Block("fashion-mnist",       LARGE,          (500, 2000, 10000), BOTH,    ROWS),
    Block("fashion-mnist",       ALL,            (55000,),        BOTH,       ROWS),
    Block("fashion-mnist",       ALL,            (500, 10000),    BOTH,       HARD),
    Block("fashion-mnist",       ALL,            (500, 10000),    BOTH,       MAPS),
    Block("digit-pairs",         SMALL,          (2000,),         BOTH,       MAPS),
    Block("fashion-mnist-pairs", ALL,            (5000,),         BOTH,       HARD),
    Block("digits",              SMALL,          (200,),          BOTH,       TINY),
    Block("fashion-mnist",       SMALL,          (500,),          BOTH,       TINY),
    Block("digits",              ("cnn-script",), (200,),         WITH,       TEMPLATES, SCRIPT),
    Block("digits",              ("mlp",),       (200,),          BOTH,       CENTROIDS),
)  # fmt: skip


def possible(cell: Cell, form: Form) -> bool:
    """Whether the form exists: 100 rows cannot be orthogonal in the 64 features of the residual network."""
    return not (form.on == "hard" and cell.model == "resnet" and cell.task.endswith("pairs"))


def runs() -> list[Run]:
    """Every training once, in the order of the table; within a cell seed by seed, so that pairs complete."""
    ordered = {
        Run(cell, form, seed): None
        for block in GRID
        for cell in block.cells()
        for seed in cell.seeds
        for form in block.forms
        if possible(cell, form)
    }
    return list(ordered)


def forms_to_choose_from(cell: Cell, on: str, compare: str) -> tuple[Form, ...]:
    """The weights of one kind of penalty that must be finished before validation data choose between them."""
    for block in GRID:
        forms = tuple(form for form in block.forms if (form.on, form.compare) == (on, compare))
        if forms and cell in block.cells():
            return forms
    return ()
