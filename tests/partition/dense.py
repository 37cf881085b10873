"""Planes of every kind of network against dense sampling: ``python -m tests.partition.dense``.

For every network: no sampled point has codes that no cell has, every point has the codes of the cell that holds it,
every cell its own codes at a point inside, and the cells' maps are the untouched module's values.
"""

from __future__ import annotations

import sys
import time

import maxaffine as ma
from tests.zoo import ZOO

SAMPLES = 20_000
EXTENT = 1.0


def main() -> int:
    """Print a row per network; returns 1 when one of them fails."""
    failed = 0
    print(f"{'network':34}{'regions':>9}{'thin':>6}{'missed':>8}{'misplaced':>11}{'repeated':>10}{'error':>10}{'s':>7}")
    for case in ZOO:
        module, inputs = case.build(), case.inputs(3)
        x = inputs[0] if len(inputs) == 1 else inputs
        start = time.process_time()
        try:
            net = ma.capture(module, x)
            output = 0 if len(net.graph.outputs) > 1 else None
            found = ma.partition.plane(net, x, extent=EXTENT, output=output)
        except ma.NotPiecewiseAffine as error:
            print(f"{case.name:34}refused: {error.operator}")
            continue
        except ma.CaptureError:
            if not case.optional:
                raise
            print(f"{case.name:34}refused: not captured")
            continue
        report = found.verify(module, samples=SAMPLES, raises=False)
        failed += not report.exact
        counts = f"{report.regions:9}{report.thin:6}{report.missed:8}{report.misplaced:11}{report.repeated:10}"
        seconds = time.process_time() - start
        print(
            f"{case.name:34}{counts}{report.error:10.1e}{seconds:7.2f}{'' if report.exact else '  FAILED'}", flush=True
        )
    print("all agree" if not failed else f"{failed} FAILED")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
