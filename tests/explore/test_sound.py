"""Sound in the explorer: an uploaded WAV file, its templates and spectra, and what is refused."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch import nn

from maxaffine._data import DataSet, Split
from maxaffine._explore import Explorer
from maxaffine._report import Choices, find_subject
from maxaffine.errors import DataError

RATE, LENGTH = 8000, 80


def _wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, rate, samples)
    return stream.getvalue()


def _numbers(found: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(found["data"]), f"<{found['type']}").reshape(found["shape"])


def _explorer(outputs: int, rate: int | None) -> Explorer:
    generator = torch.Generator().manual_seed(0)
    part = Split(torch.randn(12, 1, LENGTH, generator=generator), torch.arange(12) % 2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 6), nn.ReLU(), nn.Linear(6, outputs)).eval()
    data = DataSet("noise", part, part, ("a", "b"), rate=rate)
    return Explorer({"as it is": find_subject(model, data, Choices())})


def test_an_uploaded_file_is_explained() -> None:
    found = _explorer(2, RATE)
    about = found.about()
    assert about["rate"] == RATE and about["kind"] == "lines"
    samples = (8000 * np.sin(2 * np.pi * 500 * np.arange(LENGTH) / RATE)).astype(np.int16)
    card = found.upload(_wav(samples), "tone.wav")
    said = found.explain(card["image"], 0)
    assert np.array_equal(_numbers(said["input"])[0], samples / np.float32(2**15))
    spectra = said["spectra"]
    assert (spectra["unit"], spectra["highest"]) == ("Hz", RATE / 2)
    heights = _numbers(spectra["input"])
    assert heights.argmax() == 5 and heights.max() == pytest.approx(8000 / 2**15, rel=1e-3)
    assert _numbers(spectra["templates"]).shape == (2, LENGTH // 2 + 1)
    assert _numbers(spectra["shares"]).sum() == pytest.approx(said["difference"]["inner"], abs=1e-5)
    for content, words in (
        (_wav(samples, 44_100), "cd.wav: is sampled at 44100 Hz, not at 8000 Hz"),
        (_wav(np.stack([samples, samples], 1)), "cd.wav: has 2 channels, but one input has 1"),
        (_wav(samples[:-1]), "cd.wav: has 79 samples, but one input has 80"),
        (_wav(samples)[:50], "cd.wav: is cut short"),
        (b"RIFF", "cd.wav: is neither WAV nor .npy"),
    ):
        with pytest.raises(DataError, match=words):
            found.upload(content, "cd.wav")
    found.close()


def test_without_a_rate_any_is_taken_and_time_is_counted() -> None:
    found = _explorer(1, None)
    card = found.upload(_wav(np.ones(LENGTH, np.float32), 44_100), "x.wav")
    said = found.explain(card["image"], 0)
    assert found.about()["rate"] is None and said["spectra"]["highest"] == 0.5
    assert said["spectra"]["unit"] == "cycles per position"
    assert _numbers(said["spectra"]["shares"]).sum() == pytest.approx(said["templates"][0]["inner"], abs=1e-5)
    found.close()
