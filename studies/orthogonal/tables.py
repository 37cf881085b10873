"""The tables of the page, in markdown, from the finished runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies.page import table

from .analysis import BASELINE, OUTCOMES, Comparison, Difference, Outcome, Results, holm, paired
from .grid import GRID, SCRIPT, WEIGHTS, Block, Cell, Form, possible
from .tasks import PAIRS

GIVEN = Form("classifier", "products", 1.0)  # the default, where the weights to choose from are not all finished


def all_tables(results: Results) -> dict[str, str]:
    """Every table."""
    chosen = results.chosen()
    rows = [item for item in chosen if item.form.on == "classifier" and item.form.compare == "products"]
    others = [item for item in chosen if item not in rows and item.cell.recipe != SCRIPT]
    given = [item for item in results.comparisons() if item.form == GIVEN and item.cell not in {i.cell for i in rows}]
    return {
        "summary": summary(rows),
        "pooled": pooled(results, [item.cell for item in rows]),
        "chosen": comparisons(rows),
        "others": comparisons(others),
        "script": comparisons([item for item in results.comparisons() if item.cell.recipe == SCRIPT]),
        "given": comparisons(given),
        "begun": begun(results),
        "weights": weights(results),
        "angles": angles(results),
        "status": status(results),
    }


def summary(chosen: Sequence[Comparison]) -> str:
    """How many cells are better, worse or undecided, outcome by outcome."""
    body = []
    for outcome in OUTCOMES:
        found = [item.differences[outcome.name] for item in chosen]
        if len(found) < 2:
            continue
        held = holm([difference.p for difference in found])
        better, worse = (sum(_sign(item, outcome) == sign for item in found) for sign in (1, -1))
        lasting = [_sign(item, outcome) for item, holds in zip(found, held, strict=True) if holds]
        over_cells = paired([0.0] * len(found), [item.mean for item in found])
        corrected = f"{lasting.count(1)} / {lasting.count(-1)}"
        body.append([_title(outcome), better, worse, len(found) - better - worse, corrected, _interval(over_cells)])
    head = ["outcome (unit)", "better", "worse", "undecided", "better / worse after Holm", "mean over cells"]
    return table(head, body, numbers=False)


def pooled(results: Results, cells: Sequence[Cell]) -> str:
    """Every weight, averaged over those cells of 10 and of 100 classes that have it: nothing is chosen here."""
    body = []
    for classes, chosen in by_classes(cells).items():
        for weight in WEIGHTS:
            form = Form("classifier", "products", weight)
            found = [results.compare(cell, form) for cell in chosen if results.complete(cell, form)]
            if len(found) > 1:
                means = {o.name: [item.differences[o.name].mean for item in found] for o in OUTCOMES}
                intervals = [_marked(paired([0.0] * len(found), means[o.name]), o) for o in OUTCOMES]
                body.append([classes, len(found), f"{weight:g}", *intervals])
    return table(["classes", "cells", "λ", *(_title(outcome) for outcome in OUTCOMES)], body, numbers=False)


def by_classes(cells: Sequence[Cell]) -> dict[int, list[Cell]]:
    """The cells of tasks with 10 classes, and those of pairs with 100."""
    pairs = [cell for cell in cells if cell.task in PAIRS]
    return {10: [cell for cell in cells if cell not in pairs], 100: pairs}


def comparisons(chosen: Sequence[Comparison]) -> str:
    """One row per cell: the weight that validation chose, and what it changed."""
    head = ["cell", "form", "accuracy without", *(_title(outcome) for outcome in OUTCOMES)]
    body = [
        [
            cell_name(item.cell),
            form_name(item.form),
            f"{item.differences['test_accuracy'].baseline:.2f}",
            *(_marked(item.differences[outcome.name], outcome) for outcome in OUTCOMES),
        ]
        for item in chosen
    ]
    return table(head, body, numbers=False)


def begun(results: Results) -> str:
    """Seed by seed, what a weight of 1 changed in cells where some seeds are left: no interval."""
    body = []
    for (cell, form), runs in results.by_form.items():
        baseline = results.by_form.get((cell, BASELINE), {})
        seeds = sorted(runs.keys() & baseline.keys())
        if form == GIVEN and seeds and not results.complete(cell, form):
            found = [100 * (runs[seed]["test_accuracy"] - baseline[seed]["test_accuracy"]) for seed in seeds]
            without = 100 * sum(baseline[seed]["test_accuracy"] for seed in seeds) / len(seeds)
            changes = ", ".join(f"{value:+.2f}" for value in found)
            body.append(
                [cell_name(cell), form_name(form), f"{len(seeds)} of {len(cell.seeds)}", f"{without:.2f}", changes]
            )
    head = ["cell", "form", "pairs", "accuracy without", "accuracy, pair by pair (points)"]
    return table(head, body, numbers=False)


def weights(results: Results) -> str:
    """Difference of test accuracy for every weight that is complete."""
    accuracy = OUTCOMES[0]
    body = [
        [cell_name(item.cell), form_name(item.form), _marked(item.differences[accuracy.name], accuracy)]
        for item in results.comparisons()
    ]
    return table(["cell", "form", _title(accuracy)], body, numbers=False)


def angles(results: Results) -> str:
    """What the penalty does to the angles: of the classifier's rows, and of the templates on test data."""
    body = []
    for cell, form in results.by_form:
        if results.complete(cell, form):
            cosines = [results.mean(cell, form, name) ** 0.5 for name in ("row_cosine", "template_cosine")]
            body.append([cell_name(cell), form_name(form), *(f"{cosine:.3f}" for cosine in cosines)])
    body.sort(key=lambda row: row[0])
    return table(["cell", "form", "rows of W", "templates"], body, numbers=False)


def status(results: Results) -> str:
    """What is finished of each row of the grid."""
    body = []
    for block in GRID:
        wanted = [(cell, form) for cell in block.cells() for form in block.forms if possible(cell, form)]
        done = sum(len(results.by_form.get(pair, ())) for pair in wanted)
        total = sum(len(cell.seeds) for cell, _ in wanted)
        state = "done" if done == total else "to run" if not done else "begun"
        body.append([*_block(block), f"{done} of {total}", state])
    head = ["task", "networks", "training sizes", "batch-norm", "forms", "runs", ""]
    return table(head, body, numbers=False)


def cell_name(cell: Cell) -> str:
    """A cell in words."""
    recipe = ", the authors' recipe" if cell.recipe == SCRIPT else ""
    return f"{cell.task} {cell.size}, {cell.model}{'' if cell.batch_norm else ', no batch-norm'}{recipe}"


def form_name(form: Form) -> str:
    """A form in words."""
    if form == BASELINE:
        return "none"
    return "hard" if form.on == "hard" else f"{form.on}, {form.compare}, {form.weight:.3g}"


def _block(block: Block) -> list[str]:
    norms: Mapping[tuple[bool, ...], str] = {(True,): "with", (False,): "without"}
    kinds = dict.fromkeys(" ".join(filter(None, (form.on, form.compare))) for form in block.forms if form != BASELINE)
    weights = {kind: [f"{f.weight:.3g}" for f in block.forms if f"{f.on} {f.compare}" == kind] for kind in kinds}
    forms = ", ".join(f"{kind} {', '.join(weights[kind])}".strip() for kind in kinds)
    sizes = ", ".join(map(str, block.sizes))
    return [block.task, ", ".join(block.models), sizes, norms.get(block.batch_norm, "both"), forms]


def _sign(difference: Difference, outcome: Outcome) -> int:
    """1 where the whole interval is on the better side of 0, -1 where it is on the worse, 0 where it holds 0."""
    if abs(difference.mean) <= difference.half_width:
        return 0
    return outcome.better if difference.mean > 0 else -outcome.better


def _marked(difference: Difference, outcome: Outcome) -> str:
    mark = {1: " **+**", -1: " **-**", 0: ""}[_sign(difference, outcome)]
    return _interval(difference) + mark


def _interval(difference: Difference) -> str:
    return f"{difference.mean:+.2f} ± {difference.half_width:.2f}"


def _title(outcome: Outcome) -> str:
    return f"{outcome.label} ({outcome.unit})"
