"""Signals by frequency: how strong each one is in an input and in its templates, and what it adds to the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maxaffine._drawing import LINES, Kind, kind_of, new_figure, short, thinned
from maxaffine._report.sections.answers import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 1.35


@dataclass(frozen=True, eq=False)
class Spectra:
    """One input and its templates by frequency."""

    unit: str  # of the frequencies
    frequencies: np.ndarray  # (F,)
    # (F,) the amplitude of the sine of each frequency; of several channels the root of the sum of squares.
    input: np.ndarray
    templates: Mapping[str, np.ndarray]
    # What the shares add up to: the match of the first output, or what it leads the second one by.
    title: str
    shares: np.ndarray  # (F,) of the inner product of template, or difference of templates, and input


def is_timed(shape: tuple[int, ...], rate: int | float | None) -> bool:
    """Whether the entries of an input follow one another in time (or along anything else)."""
    # A row of many numbers without a rate may be anything, such as the columns of a table.
    return kind_of(shape) is Kind.LINES and (rate is not None or len(shape) > 1)


def frequency_unit(rate: int | float | None) -> str:
    """What frequencies are counted in."""
    return "cycles per position" if rate is None else "Hz"


def frequencies(length: int, rate: int | float | None) -> np.ndarray:
    """(F,) those of a signal of some length, from 0 to half its rate."""
    return np.fft.rfftfreq(length, 1 / (rate or 1))


def spectra_of(answer: Answer, rate: int | float | None) -> Spectra | None:
    """The spectra of an input and its templates; None where an input is no signal in time."""
    shape, up = answer.input.shape, answer.runner_up
    if not is_timed(shape, rate):
        return None
    first = answer.splits[0]
    weights, name = first.template, f"match of {first.name}"
    if up is not None:
        weights, name = up.template, f"match by which {up.winner} leads {up.loser}"
    return Spectra(
        unit=frequency_unit(rate),
        frequencies=frequencies(shape[-1], rate),
        input=amplitudes(answer.input),
        templates={split.name: amplitudes(split.template) for split in answer.splits},
        title=f"what each frequency adds to the {name}",
        shares=frequency_shares(weights, answer.input),
    )


def amplitudes(signal: np.ndarray) -> np.ndarray:
    """(F,) the amplitude of the sine of every frequency in a signal (T,) or (C, T)."""
    found = np.abs(np.fft.rfft(np.atleast_2d(signal))) * _counted(signal.shape[-1]) / signal.shape[-1]
    return np.sqrt((found**2).sum(0))


def frequency_shares(weights: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """(F,) what each frequency adds to <weights, signal>; they add up to it (Parseval)."""
    one, other = (np.fft.rfft(np.atleast_2d(item)) for item in (weights, signal))
    return (one.conj() * other).real.sum(0) * _counted(signal.shape[-1]) / signal.shape[-1]


def _counted(length: int) -> np.ndarray:
    """(F,) how many of the terms of a whole Fourier transform each frequency from 0 to half the rate stands for."""
    counts = np.full(length // 2 + 1, 2.0)
    counts[0] = 1
    if length % 2 == 0:
        counts[-1] = 1
    return counts


def spectra_figure(found: Spectra) -> Figure:
    """Draw the input's spectrum, below it those of its templates, and what each frequency adds."""
    figure = new_figure(WIDTH, 3 * HEIGHT + 0.7, constrained=True)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    _line(top, found.frequencies, found.input, "#7a8794", "amplitudes of the input")
    for place, (name, values) in enumerate(found.templates.items()):
        _line(middle, found.frequencies, values, LINES[place % len(LINES)], "of the templates", short(name, 24))
    bottom.axhline(0, color="black", linewidth=0.7)
    _line(bottom, found.frequencies, found.shares, LINES[0], short(found.title, 70))
    bottom.set_xlabel(found.unit, fontsize=8)
    if len(found.templates) > 1:
        for text in middle.legend(fontsize=7, frameon=False).get_texts():
            text.set_parse_math(False)
    return figure


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, color: str, title: str, label: str = "") -> None:
    places, drawn = thinned(y)
    ax.plot(x[places], drawn, color=color, linewidth=0.9, label=f" {label}")
    ax.set_title(title, fontsize=8, loc="left", parse_math=False)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
