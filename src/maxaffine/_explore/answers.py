"""Why a network answers as it does: its outputs, the templates of the first two of them, and where b comes from."""

from typing import Any

import numpy as np
from torch import Tensor

from maxaffine._drawing import is_image
from maxaffine._explore.shelf import Picked
from maxaffine._graph import as_tuple
from maxaffine._report import (
    Subject,
    amplitudes,
    array,
    as_array,
    drawn_array,
    frequencies,
    frequency_shares,
    frequency_unit,
    is_timed,
    number,
)
from maxaffine._templates import Templates, templates

SHOWN_OUTPUTS = 10


def explain(subject: Subject, picked: Picked) -> dict[str, Any]:
    """The outputs of an input, templates of the first two (values in their order), parts of b, the difference."""
    x = subject.like(picked.tensor[None])
    classes, count = not subject.meaning.valued, len(subject.names)
    first, top = (None, 2) if classes else (list(range(min(2, count))), None)
    found = templates(subject.net, x, first, output=subject.output, top=top, names=subject.names, progress=False)
    values = subject.own(x)[0]
    order = found.values[0].argsort(descending=True, stable=True).tolist() if classes else list(range(len(found.units)))
    predicted = found.units[order[0]] if count > 1 else int(values[0] > 0)
    return {
        "image": picked.ref,
        "name": picked.name,
        "label": picked.label,
        "input": drawn_array(x[0]),
        "predicted": predicted if classes else None,
        "outputs": largest(subject, values),
        "picture": picture(subject, values),
        "count": len(values),
        "templates": [_template(found, place) for place in order],
        "difference": _difference(found) if classes and count > 1 else None,
        "spectra": _spectra(subject, x[0], found, order),
        "bias": [
            {"operator": name, "values": [number(part.flatten(1)[0, place]) for place in order]}
            for name, part in found.contributions.items()
        ],
    }


def largest(subject: Subject, values: Tensor) -> list[dict[str, Any]]:
    """The largest outputs of one input (of values the first), with their names; ``values`` are (C,)."""
    order = values.argsort(descending=True, stable=True).tolist() if subject.answer_names else range(len(values))
    top = order[:SHOWN_OUTPUTS]
    return [{"unit": unit, "name": subject.names[unit], "value": number(values[unit])} for unit in top]


def picture(subject: Subject, values: Tensor) -> dict[str, Any] | None:
    """An output (C,) that is a picture, from its least value, 0, to its largest, 1; None of any other."""
    if not is_image(subject.units):
        return None
    reach = float(values.max() - values.min()) or 1.0
    return drawn_array(((values - values.min()) / reach).reshape(subject.units))


def _template(found: Templates, place: int) -> dict[str, Any]:
    unit = found.units[place]
    return {
        "unit": unit,
        "name": found.names[place],
        "slopes": drawn_array(as_tuple(found.template(unit))[0][0]),
        "inner": number(found.inner[0, place]),
        "offset": number(found.offsets[0, place]),
        "value": number(found.values[0, place]),
        "norm": number(found.norms[0, place]),
        "match": number(found.matches[0, place]),
    }


def _spectra(subject: Subject, x: Tensor, found: Templates, order: list[int]) -> dict[str, Any] | None:
    """The input, its first two templates and what each frequency adds, by frequency; None where it is no signal."""
    shape, rate = subject.data.input_shape, subject.data.rate
    if not is_timed(shape, rate):
        return None
    signal, rows = as_array(x), as_array(as_tuple(found.slopes)[0][0])
    templates = [rows[place] for place in order]
    led = not subject.meaning.valued and len(templates) > 1
    weights = templates[0] - templates[1] if led else templates[0]
    return {
        "unit": frequency_unit(rate),
        "highest": float(frequencies(shape[-1], rate)[-1]),
        "input": array(amplitudes(signal)),
        "templates": array(np.stack([amplitudes(template) for template in templates])),
        "shares": array(frequency_shares(weights, signal)),
    }


def _difference(found: Templates) -> dict[str, Any]:
    against = found.runner_up()
    return {
        "winner": against.winners[0],
        "loser": against.losers[0],
        "slopes": drawn_array(as_tuple(against.slopes)[0][0]),
        "shares": drawn_array(as_tuple(against.shares)[0][0]),
        "inner": number(against.inner[0]),
        "offset": number(against.offsets[0]),
        "margin": number(against.margins[0]),
        "distance": number(against.distances[0]),
    }
