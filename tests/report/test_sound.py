"""Signals in a report: time in seconds, spectra in Hz against a transform by hand, and what frequencies add."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from maxaffine._data import DataSet, Split
from maxaffine._drawing import Panel, panel_figure
from maxaffine._report import Choices, Contents, amplitudes, assemble, find_subject, frequencies, frequency_shares
from maxaffine._report.illustrations import illustrations
from maxaffine._report.page import render
from maxaffine._report.results import as_json
from maxaffine._report.spectra import is_timed, spectra_figure, spectra_of
from tests.pages import check_page

RATE, LENGTH = 800, 64
SMALL = Choices(images=3, neighbors=3, cells=60, checked=4, checked_double=2, probes=5, memorized=10)


@pytest.fixture(scope="module")
def sound() -> Contents:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 2
    times = torch.arange(LENGTH) / RATE
    waves = torch.sin(2 * torch.pi * (100 + 100 * labels[:, None]) * times + torch.rand(24, 1, generator=generator))
    part = Split(waves[:, None] + 0.1 * torch.randn(24, 1, LENGTH, generator=generator), labels)
    torch.manual_seed(0)
    layers = nn.Conv1d(1, 4, 9), nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(), nn.Linear(56, 2)
    data = DataSet("tones", part, part, ("low", "high"), rate=RATE)
    return assemble(find_subject(nn.Sequential(*layers).eval(), data, SMALL, "a network"))


def _by_hand(signal: np.ndarray, frequency: int) -> np.ndarray:
    """The part of a signal (C, T) that one frequency makes up: its projection on a cosine and a sine."""
    angle = 2 * np.pi * frequency * np.arange(signal.shape[-1]) / signal.shape[-1]
    waves = [wave / np.linalg.norm(wave) for wave in (np.cos(angle), np.sin(angle)) if np.linalg.norm(wave) > 1e-6]
    return np.sum([np.outer(signal @ wave, wave) for wave in waves], axis=0)


@pytest.mark.parametrize("length", [1, 2, 9, 16])
def test_spectra_are_projections(length: int) -> None:
    x, a = np.random.default_rng(length).normal(size=(2, 2, length))
    found, added = amplitudes(x), frequency_shares(a, x)
    assert len(found) == len(added) == len(frequencies(length, RATE)) == length // 2 + 1
    for frequency in range(len(found)):
        part = _by_hand(x, frequency)
        assert added[frequency] == pytest.approx((a * part).sum(), abs=1e-12)
        # A sine of amplitude 1 has the mean square 1/2; a constant, and the sign that alternates, have 1.
        once = frequency in (0, length / 2)
        assert found[frequency] ** 2 == pytest.approx((part**2).sum() / length * (1 if once else 2), abs=1e-12)
    assert added.sum() == pytest.approx((a * x).sum(), abs=1e-12)


def test_a_sine_is_one_line_of_its_height() -> None:
    times = np.arange(LENGTH) / RATE
    found = amplitudes(3 * np.sin(2 * np.pi * 100 * times + 0.4))
    assert frequencies(LENGTH, RATE)[found.argmax()] == 100 and found.max() == pytest.approx(3)
    assert np.sort(found)[-2] < 1e-12


def test_what_frequencies_add_is_the_match(sound: Contents) -> None:
    assert sound.exact and sound.origin.rate == RATE
    for answer in sound.answers:
        found, up = spectra_of(answer, RATE), answer.runner_up
        assert found is not None and up is not None and found.unit == "Hz" and found.frequencies[-1] == RATE / 2
        assert found.shares.sum() == pytest.approx(up.inner, abs=1e-6)
        assert list(found.templates) == [split.name for split in answer.splits]
        figure = spectra_figure(found)
        assert [len(ax.get_lines()) for ax in figure.axes] == [1, 2, 2] and figure.axes[2].get_xlabel() == "Hz"


def test_the_page_and_the_files_have_them(sound: Contents) -> None:
    text = render(sound)
    page = check_page(text)
    assert page.said("The same by frequency.")
    found = {item.name: item.numbers for item in illustrations(sound)}
    answer = sound.answers[0]
    assert answer.runner_up is not None
    numbers = found[f"spectra-{answer.index:05}"]
    assert sum(numbers["shares"]) == pytest.approx(answer.runner_up.inner, rel=1e-3)
    assert json.loads(as_json(sound))["origin"]["rate"] == RATE
    assert '"kind":"lines"' in text  # the templates of the plane's cells


def test_only_signals_have_a_spectrum(contents: Contents) -> None:
    assert all(spectra_of(answer, None) is None for answer in contents.answers)
    assert "rate" not in json.loads(as_json(contents))["origin"]
    assert is_timed((1, 64), None) and is_timed((100,), RATE)
    assert not is_timed((100,), None) and not is_timed((64,), RATE) and not is_timed((1, 8, 8), None)


def test_time_is_in_seconds_where_the_rate_is_known() -> None:
    for rate, end, words in ((RATE, (LENGTH - 1) / RATE, "seconds"), (None, LENGTH - 1, "position")):
        (ax,) = panel_figure([[Panel(np.ones((1, LENGTH)), "x", "input", rate)]]).axes
        drawn = [line for line in ax.get_lines() if str(line.get_label()).startswith("channel")]
        assert np.asarray(drawn[0].get_xdata())[-1] == pytest.approx(end) and ax.get_xlabel() == words
