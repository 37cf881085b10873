"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    decisions,
    distance,
    learning,
    lines,
    page,
    planes,
    regions,
    search,
    services,
    slopes,
    smooth,
    spectra,
    surfaces,
)
from .networks import OUTPUTS, SUBJECTS

TABLES: dict[str, Callable[[list[str], int], Any]] = {
    "slopes": lambda networks, rounds: [slopes.compare(network, rounds) for network in networks],
    "codes": lambda networks, rounds: [services.codes(network, 3 * rounds) for network in networks],
    "encode": lambda networks, rounds: [services.encoding(name, rounds) for name in services.ENCODED],
    "distance": lambda networks, rounds: distance.compare(rounds),
    "search": lambda networks, rounds: search.compare(rounds),
    "learning": lambda networks, rounds: [learning.learning(network, rounds) for network in networks],
    "line": lambda networks, rounds: lines.lines(rounds),
    "decisions": lambda networks, rounds: decisions.decisions(),
    "planes": lambda networks, rounds: planes.planes(rounds),
    "regions": lambda networks, rounds: regions.compare(rounds),
    "surfaces": lambda networks, rounds: surfaces.surfaces(),
    "growth": lambda networks, rounds: planes.growth(),
    "capture": lambda networks, rounds: [services.capture(network, 3) for network in networks],
    "smooth": lambda networks, rounds: smooth.compare(rounds),
    "spectra": lambda networks, rounds: spectra.compare(rounds),
    "import": lambda networks, rounds: services.import_seconds(7),
}


def main() -> int:
    """Measure the chosen tables, print them, and renew them on the page if they are of all networks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"what to measure, of {', '.join(TABLES)}; all of it by default")
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="rounds at least in which the contestants take turns")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the page and the numbers")
    arguments = parser.parse_args()
    if unknown := set(arguments.tables) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    measured = {}
    for name in arguments.tables or TABLES:
        numbers = TABLES[name](arguments.networks, arguments.rounds)
        measured[name] = {"of": page.circumstances(), "numbers": numbers}
    print(page.page(measured, OUTPUTS))
    if arguments.networks == list(SUBJECTS):
        page.renew(arguments.output, measured, OUTPUTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
