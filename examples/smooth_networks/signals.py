"""An LSTM that hears whether a chirp in noise rises or falls, and what each time step adds to its answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.pictures import INNER, OFFSET, Sheet, written_sum
from examples.smooth_networks.measuring import Row, kept, measure

LENGTH, BURST, FRAME = 128, 64, 4  # samples of a signal, of a chirp, of a time step
LOW, HIGH, NOISE = 0.02, 0.2, 0.5  # frequencies in cycles per sample, and the noise's standard deviation
FALLING, RISING = 0, 1
AGAINST = torch.tensor([-1.0, 1.0])  # rising against falling
SHOWN = 4


class Lstm(nn.Module):
    """An LSTM whose last state gives the logits of falling and rising."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FRAME, 32, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Listen.

        Args:
            x: Signals (N, LENGTH / FRAME, FRAME).

        Returns:
            Logits (N, 2).
        """
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


@dataclass(frozen=True)
class Chirps:
    """Signals and what they are.

    Attributes:
        inputs: (N, LENGTH / FRAME, FRAME).
        labels: FALLING or RISING, (N,).
        starts: The sample at which each chirp starts, (N,).
    """

    inputs: Tensor
    labels: Tensor
    starts: Tensor


def chirps(count: int, seed: int) -> Chirps:
    """Draw chirps: BURST samples of a tone whose frequency moves evenly between LOW and HIGH, somewhere in noise.

    Args:
        count: How many.
        seed: Of the labels, places, phases and noise.

    Returns:
        The signals.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    starts = torch.randint(LENGTH - BURST + 1, (count,), generator=generator)
    phases = 2 * math.pi * torch.rand(count, 1, generator=generator)
    time = torch.arange(LENGTH) - starts[:, None]
    # The phase is the integral of the frequency LOW + (HIGH - LOW) t / BURST; a falling chirp is a rising one reversed.
    forward = torch.where(labels[:, None] == RISING, time, BURST - 1 - time)
    cycles = LOW * forward + (HIGH - LOW) * forward.square() / (2 * BURST)
    inside = (time >= 0) & (time < BURST)
    envelope = torch.where(inside, torch.sin(math.pi * (time + 0.5) / BURST), 0)
    signals = envelope * torch.sin(2 * math.pi * cycles + phases)
    signals = signals + NOISE * torch.randn(count, LENGTH, generator=generator)
    return Chirps(signals.unflatten(1, (-1, FRAME)), labels, starts)


def learn(model: Lstm) -> None:
    """Train on 4000 chirps.

    Args:
        model: The network.
    """
    ma.models.train(model, chirps(4000, seed=0), epochs=5, batch_size=64, lr=1e-2)


def study(images: Path, weights: Path) -> Row:
    """Train, measure and draw.

    Args:
        images: The folder of the picture.
        weights: The folder of the trained weights.

    Returns:
        The row of the page's table.
    """
    model = kept(Lstm, learn, weights / "signals.safetensors")
    test = chirps(1000, seed=1)
    quality = f"{ma.models.accuracy(model, test):.1%} of chirps right"
    draw(model, test, images / "smooth-lstm.png")
    return measure("LSTM", model, test.inputs[:8], quality)


def draw(model: nn.Module, test: Chirps, file: Path) -> None:
    """Draw signals over what each of their steps adds to "rising" against "falling".

    Args:
        model: The network.
        test: The signals, of which the first are shown.
        file: The picture.
    """
    x = test.inputs[:SHOWN]
    amap = ma.capture(model, x, smooth="frozen").affine_map(x)
    shares = (only(amap.rmv(AGAINST.expand(SHOWN, 2))) * x).sum(2)
    offsets = amap.offsets @ AGAINST
    middles = [first + (FRAME - 1) / 2 for first in range(0, LENGTH, FRAME)]
    left, breadth, row = 66, 560, 170
    sheet = Sheet(left + breadth + 130, 34 + SHOWN * row)
    sheet.text(left, 8, "signal")
    sheet.text(left + 60, 8, "what each step adds to rising, ⟨A$_t$, x$_t$⟩", color=INNER)
    sheet.text(left + 310, 8, "and b", color=OFFSET)
    sheet.text(left + 365, 8, "the chirp is where it is gray", color="gray")
    for place in range(SHOWN):
        top = 34 + place * row
        signal = sheet.axes(left, top, breadth, 56)
        signal.plot(x[place].flatten().numpy(), color="black", linewidth=1)
        bars = sheet.axes(left, top + 60, breadth, 84)
        bars.bar(middles, shares[place].tolist(), color=INNER, width=0.8 * FRAME)
        bars.bar([LENGTH + FRAME], [float(offsets[place])], color=OFFSET, width=0.8 * FRAME)
        bars.axhline(0, color="gray", linewidth=0.6)
        start = int(test.starts[place])
        for axes in (signal, bars):
            axes.axvspan(start - 0.5, start + BURST - 0.5, color="0.92", zorder=0)
            axes.set_xlim(-FRAME, LENGTH + 2 * FRAME)
            axes.tick_params(labelsize=7, length=2)
            axes.spines[["top", "right"]].set_visible(False)
        signal.set_xticks([])
        truth = "rising" if test.labels[place] == RISING else "falling"
        words = f"{truth}; found:\n{written_sum(float(shares[place].sum()), float(offsets[place]), newline=True)}"
        sheet.text(left + breadth + 14, top + 50, words)
    sheet.save(file)
