"""Measure octave errors and a line between two tones, and write them into the tutorial on sound."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import maxaffine as ma
from examples.real_networks.published import crepe
from examples.sound.between import between
from examples.sound.errors import COUNT, HEAD, HIGHEST, KINDS, LOWEST, listen, rows_of
from examples.sound.tones import frame, harmonics
from studies.page import renew, table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The words after the command; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.sound", description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of sound.md and of images/")
    parser.add_argument("--count", type=int, default=COUNT, help="pitches of each kind of tone")
    parser.add_argument("--tones", type=float, nargs=2, default=(220.0, 330.0), help="ends of the line, in Hz")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = crepe().double()
    net = ma.capture(model, frame(harmonics(220.0, [1.0]))[0].repeat(2, 1), output="pre_activation", task="classes")
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    pitches = np.geomspace(LOWEST, HIGHEST, options.count)
    rows = [row for kind, amplitudes in KINDS.items() for row in rows_of(kind, listen(net, amplitudes, pitches))]
    low, high = options.tones
    line = between(net, model, low, high, options.docs / "images" / "sound-line.png")
    renew(options.docs / "sound.md", {"octaves": table(HEAD, rows), "line": line + "\n"})
    print(table(HEAD, rows), line, sep="\n")


if __name__ == "__main__":
    main()
