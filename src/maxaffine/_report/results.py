"""The numbers of a report as JSON and in a few lines of text, without its pictures."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

from maxaffine._generators import Manifold
from maxaffine._partition import PlanePartition, Surface
from maxaffine._report.audit import Audit
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Neighborhoods
from maxaffine._report.lookup import Lookup
from maxaffine._report.sections.fit import fit_lines
from maxaffine._templates import Alignment, Memorization

# What a line about something to do begins with.
NEXT = "to do next"


def as_json(contents: Contents | Lookup) -> str:
    """Every number of a report or a lookup as JSON: records by field, less arrays; what is not finite is text."""
    found = plain(contents)
    # What only tables, targets, signals, generators and three inputs have is there with them.
    origin = found["origin"]
    optional = [(origin, name) for name in ("feature_names", "target_names", "rate")]
    for record, name in optional + [(found, name) for name in ("fit", "generated", "level_set")]:
        if not record.get(name):
            record.pop(name, None)
    if isinstance(contents, Contents):
        found["exact"] = contents.exact
        if len(contents.origin.input_shape) != 4:  # only volumes are split by shells
            for split in (split for answer in found["answers"] for split in answer["splits"]):
                del split["isotropic"]
        if contents.meaning.valued:
            _drop_classes(found)
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)


def _drop_classes(found: dict[str, Any]) -> None:
    """Leave out what only a classifier has; of values it would be empty, or say nothing."""
    records = [(found, ["accuracy"]), (found["origin"], ["class_names"]), (found["choices"], ["classes"])]
    for answer in found["answers"]:
        records.append((answer, ["label", "predicted", "right", "runner_up"]))
        records += [(split, ["label"]) for split in answer["splits"]]
    records.append((found["cut"], ["labels", "areas", "change"]))
    for record, names in records:
        for name in names:
            record.pop(name, None)


def as_text(contents: Contents) -> str:
    """Sum up a report in a few lines, in the order of what follows from them for the user."""
    checks = [str(check.report or f"not checked in {check.dtype}: {check.reason}") for check in contents.checks]
    lines = [f"{contents.origin.model}: {contents.origin.weights}"]
    doubt = ", set aside here: was it trained on them?" if contents.origin.doubtful_test else ""
    # No number can be relied on until the checks hold, and no class that is named is right until the order is.
    lines = [*lines, *checks] if contents.exact else [*checks, *lines]
    if (accuracy := contents.accuracy) is not None:
        if accuracy.order is not None:
            lines.insert(0, f"{accuracy.order.finding} {accuracy.order.cure}")
        part = "" if accuracy.inputs == contents.origin.test_size else f" (of {accuracy.inputs:,} test inputs)"
        accuracy_words = f"{accuracy.share:.2%} (± {accuracy.standard_error:.2%})"
        lines.append(f"test accuracy: {accuracy_words}{part}{doubt}")
    lines += fit_lines(contents.fit, doubt)
    told = {accuracy.order.finding} if accuracy is not None and accuracy.order is not None else set()
    lines += [f"{NEXT}: {hint.finding} {hint.advice}" for hint in contents.hints if hint.finding not in told]
    if not contents.hints:
        lines.append(f"{NEXT}: nothing")
    if isinstance(contents.memory, Memorization):
        lines.append(f"memorization: {_memory_text(contents.memory)}")
    if isinstance(contents.audit, Audit) and contents.audit.too_small:
        lines.append(f"labels: {contents.audit.too_small_words}")
    if isinstance(contents.neighbors, Neighborhoods) and contents.neighbors.left_out:
        lines.append(f"neighbors: {contents.neighbors.left_out_words}")
    if contents.meaning.valued:
        inferred = "" if contents.choices.task else " (inferred; --task overrides it)"
        lines.append(f"outputs: {contents.meaning.value}{inferred}")
    pieced = f"{len(contents.piecewise)} of them piecewise affine with {contents.piecewise_units:,} units"
    smooth = f"{len(contents.held)} of them smooth, their gates held at each input: no regions"
    lines.append(f"operators: {len(contents.operators)}, {smooth if contents.held else pieced}")
    return "\n".join(lines)


def plain(item: Any, arrays: bool = False) -> Any:
    """Records as what JSON can hold; arrays, where they are kept, as nested lists of six digits."""
    if isinstance(item, Memorization):
        return _memorization(item)
    if isinstance(item, Manifold):
        entropy = item.entropy.value
        found = {"regions": item.plane.regions, "area": item.area, "entropy": entropy, "imbalance": item.imbalance}
        return plain(found)
    if isinstance(item, Surface):
        return plain(item.to_dict())
    if isinstance(item, PlanePartition):
        area = float(item.areas.sum())
        return {"regions": item.regions, "vertices": len(item.vertices), "edges": len(item.edges), "area": area}
    if is_dataclass(item) and not isinstance(item, type):
        return plain(
            {field.name: getattr(item, field.name) for field in fields(item) if field.name != "source"}, arrays
        )
    if isinstance(item, Mapping):
        return {str(key): plain(value, arrays) for key, value in item.items() if arrays or not _holds_arrays(value)}
    if isinstance(item, tuple | list):
        return [plain(value, arrays) for value in item]
    if isinstance(item, np.ndarray):
        rounded = np.array([float(f"{value:.6g}") for value in item.ravel().tolist()]).reshape(item.shape).tolist()
        return rounded if np.isfinite(item).all() else plain(rounded)
    if isinstance(item, Enum):
        return item.value
    if isinstance(item, torch.dtype):
        return str(item).removeprefix("torch.")
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    return item


def alignment_arrays(found: Memorization) -> dict[str, Any]:
    """What is measured at each input, by part and name."""
    names = ("labels", "own", "others", "ratios", "alignments", "right")
    parts = _parts(found).items()
    return {part: {name: plain(getattr(it, name).tolist()) for name in names} for part, it in parts}


def _parts(found: Memorization) -> dict[str, Alignment]:
    return {"train": found.train} | ({} if found.test is None else {"test": found.test})


def _memory_text(found: Memorization) -> str:
    if found.reason:
        return f"cannot be told: {found.reason}"
    return f"{found.score:.1%} (± {found.standard_error:.1%}) of the templates' fit to the training data"


def _memorization(found: Memorization) -> dict[str, Any]:
    shown = {name: {"inputs": len(part), **plain(part.summary)} for name, part in _parts(found).items()}
    return shown | {
        "optimum": plain(found.train.optimum),
        "score": plain(found.score),
        "standard_error": plain(found.standard_error),
        "reason": "" if found.test is None else found.reason,
    }


def _holds_arrays(item: Any) -> bool:
    return isinstance(item, np.ndarray) or (
        isinstance(item, Mapping) and any(isinstance(value, np.ndarray) for value in item.values())
    )
