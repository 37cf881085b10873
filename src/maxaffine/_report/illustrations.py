"""Every figure of a report or a lookup by name, with the numbers that it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine._drawing import shown
from maxaffine._partition import PlanePartition
from maxaffine._report import figures
from maxaffine._report.audit import ALIKE, TWICE, WRONG, Audit, audit_rows
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Neighborhoods
from maxaffine._report.features import features_figure, features_of
from maxaffine._report.lookup import Lookup
from maxaffine._report.results import alignment_arrays, plain
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.fit import Fit
from maxaffine._report.sections.generated import Generated
from maxaffine._report.sections.level import LevelSet
from maxaffine._report.spectra import spectra_figure, spectra_of
from maxaffine._report.subject import Meaning
from maxaffine._templates import Memorization

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPERATORS, MEMORIZATION, SHARES, PLANE = "operators", "memorization", "class-shares", "plane"
PREDICTED, LEVEL_SET = "predicted", "level-set"
STRETCH, SAMPLES, SURFACE = "stretch", "samples", "latent-plane"


@dataclass(frozen=True, eq=False)
class Illustration:
    """One figure."""

    name: str  # of its files, without a suffix
    draw: Callable[[], Figure]
    numbers: Any  # what it shows, as JSON can hold it


def illustrations(contents: Contents | Lookup) -> Iterator[Illustration]:
    """Every figure of a report or a lookup, in the order of the page; nothing is drawn yet."""
    if isinstance(contents, Contents):
        yield from _network(contents)
    if isinstance(near := contents.neighbors, Neighborhoods):
        yield from _neighbors(near)
    if isinstance(audit := contents.audit, Audit):
        copies, others = ([pair for pair in audit.pairs if pair.copies == kind] for kind in (True, False))
        numbers = {TWICE: plain(copies), ALIKE: plain(others), WRONG: plain(audit.suspects)}
        for name, rows in audit_rows(audit).items():
            yield Illustration(name, partial(figures.examples_figure, rows, audit.pictures), numbers[name])
    if isinstance(contents, Contents) and isinstance(contents.cut, Cut):
        yield _plane(contents, contents.cut)
    if isinstance(contents, Contents) and isinstance(found := contents.level_set, LevelSet):
        mesh = {"vertices": plain(found.surface.vertices), "faces": [face.tolist() for face in found.surface.faces]}
        yield Illustration(LEVEL_SET, partial(figures.level_figure, found.surface), plain(found) | mesh)


def figure_name(what: str, index: int) -> str:
    """Name of the figure of the templates, the offsets or the neighbors of a test input."""
    return f"{what}-{index:05}"


def _network(contents: Contents) -> Iterator[Illustration]:
    """Its operators, why it answers as it does, and what it has memorized."""
    units = {contents.titles[record.name]: prod(record.units) for record in contents.piecewise}
    if units:
        title = "piecewise-affine operators"
        draw = partial(figures.bars_figure, list(units), {"units": list(units.values())}, "units", title)
        yield Illustration(OPERATORS, draw, plain(contents.operators))
    if isinstance(fit := contents.fit, Fit):
        parts = {part: {"targets": plain(fit.targets[part]), "values": plain(fit.values[part])} for part in fit.targets}
        yield Illustration(PREDICTED, partial(figures.predicted_figure, fit), plain(fit) | parts)
    if isinstance(made := contents.generated, Generated):
        numbers = plain(made) | {"spectrum": plain(made.spectrum), "volumes": plain(made.volumes)}
        yield Illustration(STRETCH, partial(figures.stretch_figure, made), numbers)
        yield Illustration(SAMPLES, partial(figures.samples_figure, made), plain(made))
        if made.surface is not None:
            volumes = {"log_volumes": plain(made.surface.log_volumes.numpy())}
            yield Illustration(SURFACE, partial(figures.surface_figure, made.surface), plain(made.surface) | volumes)
    for answer in contents.answers:
        yield from _answer(answer, contents)
    if isinstance(found := contents.memory, Memorization):
        yield Illustration(MEMORIZATION, found.figure, plain(found) | {"inputs": alignment_arrays(found)})


def _answer(answer: Answer, contents: Contents) -> Iterator[Illustration]:
    titles, features, rate = contents.titles, contents.origin.feature_names, contents.origin.rate
    name, draw = figure_name("templates", answer.index), partial(figures.answer_figure, answer, rate)
    if features:
        draw = partial(features_figure, answer, features_of(answer, features))
    yield Illustration(name, draw, plain(_as_shown(answer), arrays=True))
    if (found := spectra_of(answer, rate)) is not None:
        draw = partial(spectra_figure, found)
        yield Illustration(figure_name("spectra", answer.index), draw, plain(found, arrays=True))
    if answer.splits[0].contributions:
        numbers = {
            split.name: {**dict(split.contributions), "all others": split.others, "offset": split.offset}
            for split in answer.splits
        }
        name, draw = figure_name("offsets", answer.index), partial(figures.offsets_figure, answer, titles)
        yield Illustration(name, draw, plain(numbers))


def _as_shown(answer: Answer) -> Answer:
    """The answer with its templates summed over channels, as in the figure."""
    splits = tuple(replace(split, template=shown(split.template)) for split in answer.splits)
    decided = answer.runner_up
    if decided is not None:
        decided = replace(decided, template=shown(decided.template), shares=shown(decided.shares))
    shares = None if answer.shares is None else shown(answer.shares)
    return replace(answer, splits=splits, runner_up=decided, shares=shares)


def _neighbors(near: Neighborhoods) -> Iterator[Illustration]:
    if near.shares:
        shares = dict(near.shares) | {"drawn at random": near.chance}
        title = f"share of the {near.count} nearest with the query's class"
        draw = partial(figures.bars_figure, list(shares), {"share": list(shares.values())}, "share", title)
        yield Illustration(SHARES, draw, plain({"shares": shares, "neighbors": near.count, "probes": near.probes}))
    for query in near.queries:
        name, draw = figure_name("neighbors", query.index), partial(figures.neighbors_figure, query, near)
        yield Illustration(name, draw, plain(query))


def _plane(contents: Contents, cut: Cut) -> Illustration:
    """The plane, its regions by number, and by what they are colored: answers, or level sets of values."""
    partition, named = cut.partition, contents.meaning in (Meaning.CLASSES, Meaning.SIGN)
    names = list(contents.origin.class_names) if named else [reach.name for reach in cut.values] or None
    cells = partition.cells
    corners = np.split(cells.points[cells.corners], cells.starts[1:-1])
    numbers = plain(cut) | {
        "regions": [
            {"corners": plain(ring), "operator": operator}
            for ring, operator in zip(corners, partition.depths.tolist(), strict=True)
        ],
        "operators": list(partition.operators),
    }
    if not contents.meaning.valued:
        for region, winner in zip(numbers["regions"], partition.classes.tolist(), strict=True):
            region["answer"] = winner if not named else contents.origin.class_names[winner]
        numbers["boundary"] = plain(partition.decision_boundary().points.numpy())
    elif cut.values:
        for region, row in zip(numbers["regions"], partition.at(partition.centers).tolist(), strict=True):
            region["values"] = row
        numbers["levels"] = [_levels(partition, output) for output in range(min(len(cut.values), figures.MOST_VALUES))]
    return Illustration(PLANE, partial(figures.plane_figure, partition, names), numbers)


def _levels(partition: PlanePartition, output: int) -> dict[str, Any]:
    found = partition.contours(output)
    return {str(level): plain(lines.points.numpy()) for level, lines in zip(found.levels, found.lines, strict=True)}
