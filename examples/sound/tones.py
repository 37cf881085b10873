"""Synthetic tones as the pitch tracker CREPE takes them, and the pitches that its outputs stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

RATE, LENGTH = 16_000, 1024
# Hz, of the 360 outputs, 20 cents (a fifth of a semitone) apart; an octave is 60 of them.
PITCHES = 10 * 2 ** ((1997.3794084376191 + 20 * np.arange(360)) / 1200)
OCTAVE = 60
HIGHEST = 7800.0


def harmonics(hz: float, amplitudes: Sequence[float], phase: float = 0.0) -> np.ndarray:
    """The sines that a tone is made of, one for each harmonic below half the sampling rate.

    Args:
        hz: The pitch.
        amplitudes: Of the fundamental, and of the harmonics above it.
        phase: Of the fundamental, in radians; harmonic k has k times as much.

    Returns:
        (K, 1024), whose sum is the tone.
    """
    angle = 2 * np.pi * hz * np.arange(LENGTH) / RATE + phase
    below = [(k, size) for k, size in enumerate(amplitudes, start=1) if k * hz < HIGHEST]
    return np.stack([size * np.sin(k * angle) for k, size in below])


def frame(parts: np.ndarray) -> tuple[Tensor, Tensor]:
    """A tone as the network takes it, with mean 0 and standard deviation 1, and its parts likewise.

    Args:
        parts: (K, 1024), whose sum is the tone.

    Returns:
        The tone (1, 1024), and the parts (K, 1024) that add up to it, in double precision.
    """
    centered = torch.from_numpy(parts - parts.mean(1, keepdims=True))
    centered = centered / centered.sum(0).std()
    return centered.sum(0, keepdim=True), centered


def nearest(hz: float) -> int:
    """The output whose pitch is the nearest.

    Args:
        hz: A pitch.

    Returns:
        Its number, from 0 to 359.
    """
    return int(np.abs(np.log2(PITCHES / hz)).argmin())
