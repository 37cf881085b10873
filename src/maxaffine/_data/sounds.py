"""Sound as numbers, from WAV files, read with SciPy (the extra ``maxaffine[data]``)."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

SUFFIXES = (".wav", ".wave")
# Little-endian, big-endian, and of more than 4 GB.
_STARTS = (b"RIFF", b"RIFX", b"RF64")


@dataclass(frozen=True)
class SoundReader:
    """How the WAV files of a folder are read: all at the sampling rate of the first one."""

    first: Path
    rate: int  # samples per second
    several: bool  # whether a file may have several channels

    @classmethod
    def of(cls, first: Path, several: bool) -> SoundReader:
        """Take the sampling rate of the first file."""
        return cls(first, sound_of(first.read_bytes(), str(first))[0], several)

    @property
    def mark(self) -> str:
        """What tells numbers that were read in another way."""
        return str(self.rate)

    def read(self, path: Path) -> np.ndarray:
        """One file as samples (C, T)."""
        rate, samples = sound_of(path.read_bytes(), str(path))
        if rate != self.rate:
            raise DataError(f"{path}: {other_rate(rate, self.rate, str(self.first))}")
        if len(samples) > 1 and not self.several:
            raise DataError(
                f'{path}: has {len(samples)} channels; mix them down to one, or pass channels="first" to keep them'
            )
        return samples

    def unlike(self, shape: tuple[int, ...], first: tuple[int, ...], path: Path) -> str:
        """Why a file of another shape than the first one cannot stand beside it."""
        if shape[0] != first[0]:
            return f"has {shape[0]} channels, not {first[0]} like {path}; give all files the same"
        return f"has {shape[1]} samples, not {first[1]} like {path}; cut or pad all files to one length"


def is_sound(start: Path | bytes) -> bool:
    """Whether a file is a WAV file, by its name or by its first bytes."""
    if isinstance(start, Path):
        return start.suffix.lower() in SUFFIXES
    return start[:4] in _STARTS and start[8:12] == b"WAVE"


def sound_of(content: bytes, name: str) -> tuple[int, np.ndarray]:
    """The sampling rate of a WAV file, and its samples (C, T) float32: whole numbers in [-1, 1), floats as they are."""
    rate, found = _read(content, name)
    samples = found[:, None] if found.ndim == 1 else found
    if not samples.size:
        raise DataError(f"{name}: holds no samples; record it again, or remove it")
    if samples.dtype.kind == "u":  # of 8 bits or less, whose silence is 128
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":  # of more bits, the highest of them first, also where there are fewer than 32
        samples = samples / 2.0 ** (8 * samples.dtype.itemsize - 1)
    with np.errstate(over="ignore"):  # what overflows float32 is not finite
        samples = samples.astype(np.float32)
    if wrong := int(np.count_nonzero(~np.isfinite(samples))):
        raise DataError(f"{name}: {wrong} of its {samples.size} samples are NaN or infinite; write it again")
    return rate, np.ascontiguousarray(samples.T)


def other_rate(rate: int | float, wanted: int | float, like: str) -> str:
    """Why sound at another sampling rate is refused."""
    # The same sound has other numbers then, and other frequencies for the network.
    return f"is sampled at {rate:.12g} Hz, not at {wanted:.12g} Hz like {like}; resample it (scipy.signal.resample)"


def _read(content: bytes, name: str) -> tuple[int, np.ndarray]:
    try:
        from scipy.io import wavfile
    except ModuleNotFoundError as error:
        raise DataError("sound: SciPy reads WAV files and is absent; pip install 'maxaffine[data]'") from error
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(content))
    # What SciPy raises on bad bytes is not one family.
    except (ValueError, ArithmeticError, UnboundLocalError, struct.error, TypeError, MemoryError) as error:
        raise DataError(f"{name}: unreadable as a WAV file of PCM or floats ({error}); write it again so") from error
    # Of chunks beside the samples (names, cue points) it says that they are left out, and that is right.
    if any("prematurely" in str(item.message) for item in said):
        raise DataError(f"{name}: is cut short: its header promises more than it holds; copy or write it again")
    return rate, samples
