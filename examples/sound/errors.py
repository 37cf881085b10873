"""Which tones the pitch tracker hears an octave too high, and what each harmonic has to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.sound.tones import LENGTH, OCTAVE, frame, harmonics, nearest

# Amplitudes of the harmonics, the fundamental first.
KINDS = {
    "all harmonics, 1/k": [1 / k for k in range(1, 9)],
    "a quarter of the fundamental": [0.25, *(1 / k for k in range(2, 9))],
    "no fundamental": [0.0, *(1 / k for k in range(2, 9))],
    "two harmonics, the second four times as strong": [1.0, 4.0],
}
LOWEST, HIGHEST, COUNT = 60.0, 1000.0, 60
PHASES = (0.0, 1.0, 2.0, 3.0)
# Outputs (fifths of a semitone) that count as one pitch with that of the tone.
NEAR = 2
HEAD = ("tones", "heard", "how many", "difference", "= offset", "+ harmonic 1", "+ 2", "+ 3", "+ all others")


@dataclass(frozen=True, eq=False)
class Heard:
    """How tones of one kind are heard, and why.

    Attributes:
        octaves: (N,) by how many octaves each is heard too high; NaN where the answer is no octave of the tone.
        parts: (N, 8) what each harmonic adds to the logit of the octave above, less that of the pitch.
        offsets: (N,) what the offsets add to it.
    """

    octaves: np.ndarray
    parts: np.ndarray
    offsets: np.ndarray


def listen(
    net: ma.SplineNetwork, amplitudes: Sequence[float], pitches: np.ndarray, phases: Sequence[float] = PHASES
) -> Heard:
    """Let the network hear tones of some pitches and phases, and take its answers apart.

    The difference of two logits is <D, x> + b with the difference D of their templates, and x is the sum of its
    harmonics x_k, so that it is the sum of the <D, x_k> and b.

    Args:
        net: The spline form before the sigmoid, in double precision.
        amplitudes: Of the harmonics, at most eight.
        pitches: (P,) in Hz.
        phases: Of the fundamental.

    Returns:
        What was heard, P times as many tones as phases.
    """
    tones, parts = [], torch.zeros(len(pitches) * len(phases), 8, LENGTH, dtype=torch.float64)
    for place, (hz, phase) in enumerate((hz, phase) for hz in pitches for phase in phases):
        x, each = frame(harmonics(hz, amplitudes, phase))
        tones.append(x)
        parts[place, : len(each)] = each
    x, own = torch.cat(tones), np.repeat([nearest(hz) for hz in pitches], len(phases))
    logits = net(x)
    steps = (logits.argmax(1).numpy() - own) / OCTAVE
    octaves = np.where(np.abs(steps - steps.round()) * OCTAVE <= NEAR, steps.round(), np.nan)
    rival = torch.zeros_like(logits)
    for row, unit in enumerate(own.tolist()):
        for middle, sign in ((unit, -1.0), (unit + OCTAVE, 1.0)):
            around = slice(middle - NEAR, middle + NEAR + 1)
            rival[row, middle - NEAR + int(logits[row, around].argmax())] = sign
    difference = only(net.affine_map(x).rmv(rival))
    shares = (difference[:, None] * parts).sum(2)
    return Heard(octaves, shares.numpy(), ((logits * rival).sum(1) - shares.sum(1)).numpy())


def rows_of(kind: str, heard: Heard) -> list[list[str]]:
    """The rows of a table: right answers and octave errors of one kind of tones, with means of what each part adds.

    Args:
        kind: What to call the tones.
        heard: How they are heard.

    Returns:
        A row for each answer that there is.
    """
    rows = []
    for octaves, words in ((0, "right"), (1, "an octave too high")):
        of = heard.octaves == octaves
        if of.any():
            parts, offset = heard.parts[of].mean(0), heard.offsets[of].mean()
            numbers = [parts.sum() + offset, offset, *parts[:3], parts[3:].sum()]
            cells = [f"{number:+.1f}".replace("-", "−") for number in numbers]
            rows.append([kind, words, f"{of.sum()} of {len(of)}", *cells])
    return rows
