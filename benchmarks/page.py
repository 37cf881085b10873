"""RESULTS.md and results.json from what was measured."""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from . import decisions, learning, lines, plane_peers, regions
from .codes_page import codes_section, distance_section, encode_section, search_section
from .markdown import number, table
from .measure import MEMORY_LIMIT
from .networks import OUTPUTS

INTRODUCTION = """# Results

Written by `python -m benchmarks`, which measures each table in one run. Seconds are those of one thread, medians over
rounds in which the contestants take turns; a ratio is the median over the rounds of the contestant's CPU time over that
of the floor, or of the forward pass, in the same round. Memory is what one call adds at its peak, its result included,
after a first call has loaded and made what stays (maxaffine keeps a copy of the weights with each batch-norm folded in,
from the first affine map on), measured in a process of its own. The address space of each process is limited to
{limit} GiB. Every round is in `results.json`.
"""

SLOPES = """
## Slopes of {outputs} outputs

The floor is the input-gradient products of the linear and convolution layers alone, for every sample and output, by
`aten.convolution_backward` and matrix products: no forward pass, no nonlinearity, no additions. The layers are passed
once per output with the batch as rows, in the layout of the network (NCHW); the other floors hand all rows to each
layer at once, or use channels_last. The models have parameters that require gradients, as users have them; a "frozen"
contestant gets a copy whose parameters do not. "Error" is the largest difference from the loop, relative to its largest
slope (float32).
"""


LEARNING = f"""
## Orthogonal templates, over a plain training step

A step is the forward and the backward pass of the cross-entropy and Adam's update. The penalty on the classifier is
timed alone, its own backward pass included, and set against the step; "step with maps" is a whole step with the penalty
on the templates of {learning.SAMPLES} samples between {OUTPUTS} classes, "step, hard form" one with the rows of the
classifier kept orthogonal, both over the plain step.
"""

LINES = """
## Exact lines and integrated gradients

Between two normal inputs, in float64, beside the module's own forward pass at every breakpoint of the result. Exact
integrated gradients hold the line and the gradient of one output on every piece; captum's `IntegratedGradients` (rule
of middles) takes the first power of two of steps whose completeness error, relative to the larger output, is within
the bound there and at the doubled number.
"""

DECISIONS = """
## The nearest other decision

The smallest change of any pixel (norm infinity, pixels from 0 to 1) that changes the class, of the first {images}
digits that each network gets right; the time limit is {limit} s of wall clock. "above the bound" is the largest
distance over the proved lower bound, less one. PGD is {starts} random starts of {steps} steps down the margin, the
radius found by {turns} bisections; "too far" is its largest radius over the distance found, less one.
"""

PLANES = f"""
## Exact planes

All regions on a polygon of a plane, in float64, with torch's default initialization. CPU seconds are the least of the
rounds; "peak" is the most memory that the process has held (before the partition in brackets), "x floor" the CPU time
over that of the module's own forward pass at every final vertex. Edge subdivision is the published neuron-by-neuron
algorithm (Berzins, ICML 2023), written anew in `benchmarks/subdivision.py`, and leaner there than in its author's
program, which copies all signs and values with every unit (run in float64, from the folder that `{plane_peers.FOLDER}`
names); both find vertices and edges alone, of fully connected networks. regioncam, in Rust, computes in float32.
relucent searches the cells that meet the square, without its check at the end; affinitree builds its tree on the
square; these two are ended after {plane_peers.PEER_SECONDS} CPU s. All find the same number of regions where the table
does not say otherwise.
"""

REGIONS = """
## All regions of a box

MLPs of 2 to 5 inputs with torch's default initialization, on (-1, 1), in float64: `partition.regions`, its neighbors
and the check that every side has one included, beside affinitree's tree of the network on the box.
"""

SURFACES = """
## Exact surfaces

The zero level of networks that have learned how far a point is from a torus, in the box (-1, 1), in float64, and of
two that the author of edge subdivision has published, of a bunny, where `EDGE_SUBDIVISION` names its clone:
`partition.surface`, and marching cubes (scikit-image), the network run at every node, on the first grid of a list that
takes as long. Edge subdivision (Berzins 2023) is written anew in NumPy, its sign vectors compared by hashes: it cuts
all of the box by every unit, and the surface is a part of that; in brackets its polygons. CPU seconds are the fewer of
two runs, training not counted. "|f|" is the largest at the vertices, by the module itself; "off" is how
far the centers of marching cubes' triangles are from the surface, |f| over its slope, the mean and the largest.
"""

GROWTH = """
## Growth of planes

MLP 2-wx4-1 on [-s, s]^2, streamed to disk in tiles, everything as above.
"""

OURS = "maxaffine"
TIME_RIVALS = ("floor", "loop of autograd.grad", "vmap(jacrev)", "vmap(jacrev), frozen", "captum Saliency")
MEMORY_RIVALS = ("loop of autograd.grad", "vmap(jacrev)", "vmap(jacrev), frozen")


def circumstances() -> str:
    """When and where something was measured, and what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("maxaffine", "torch", "captum"))
    return (
        f"Measured on {date.today()}; {model}, {os.cpu_count()} cores, {gib:.0f} GiB, "
        f"load {os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {packages}."
    )


def slopes_section(result: dict[str, Any]) -> str:
    """One network's table and the distance of its floor from the arithmetic."""
    rows = []
    for row in result["rows"]:
        if "failure" in row:
            rows.append([row["name"], row["failure"], "", "", "", ""])
            continue
        cpu, wall = median(row["cpu"]), median(row["wall"])
        cells = (number(cpu), number(wall), number(row["ratio"]), number(row["memory_mib"]), number(row["error"], 1))
        rows.append([row["name"], *cells])
    work, peaks, floor = result["work"], result["peaks"], median(result["rows"][0]["cpu"])
    least = max(work[unit] / peaks[unit] for unit in work)
    head = ["", "CPU s", "wall s", "x floor", "extra MiB", "error"]
    return (
        f"\n### {result['title']}, batch {result['batch']}\n\n{table(head, rows)}\n"
        f"The floor computes {work['gflop']:.3g} GFLOP and moves at least {work['gbyte']:.2g} GB. At the "
        f"{peaks['gflop']:.0f} GFLOP/s of a large convolution and the {peaks['gbyte']:.0f} GB/s of a copy, measured in "
        f"this run, that is {least:.2g} s; the floor takes {floor / least:.2g} times as long.\n"
    )


def summary(results: list[dict[str, Any]]) -> str:
    """This library's time and memory over each rival's, one row per network."""
    rows = []
    for result in results:
        found = {row["name"]: row for row in result["rows"]}
        times = [over(found[OURS], found[rival], "cpu") for rival in TIME_RIVALS]
        rows.append(
            [result["title"], *times, *(over(found[OURS], found[rival], "memory_mib") for rival in MEMORY_RIVALS)]
        )
    head = [f"{OURS} over", *TIME_RIVALS, *(f"memory: {rival}" for rival in MEMORY_RIVALS)]
    return f"\n{table(head, rows)}"


def over(ours: dict[str, Any], rival: dict[str, Any], key: str) -> str:
    """The ratio of two rows, the median over rounds for times; empty where one of them failed."""
    if key not in ours or key not in rival:
        return ""
    if key == "memory_mib":
        return number(ours[key] / rival[key], 2)
    return number(median(a / b for a, b in zip(ours[key], rival[key], strict=True)), 2)


def learning_section(results: list[dict[str, Any]]) -> str:
    """What the forms of orthogonal templates cost, over a plain training step."""
    rows = []
    for row in results:
        name = f"{row['title']}, batch {row['batch']}"
        if "failure" in row:
            rows.append([name, row["failure"], "", "", "", ""])
            continue
        ratios = row["ratios"]
        cells = [number(learning.seconds(row, learning.STEP)), number(1e6 * learning.seconds(row, "classifier"))]
        shares = [f"{100 * ratios['classifier']:.2g}%", number(ratios["maps"]), number(ratios["hard"])]
        rows.append([name, *cells, *shares])
    head = [
        "",
        "step CPU s",
        "penalty on the classifier, CPU µs",
        "share of a step",
        "step with maps",
        "step, hard form",
    ]
    return f"{LEARNING}\n{table(head, rows)}"


def line_section(results: list[dict[str, Any]]) -> str:
    """Exact lines over a forward pass at every breakpoint, and captum over exact integrated gradients."""
    rows = []
    for row in results:
        if "failure" in row:
            rows.append([row["title"], row["failure"], *[""] * 7])
            continue
        seconds = [number(median(row["timings"][name]["cpu"])) for name in (lines.LINE, lines.EXACT)]
        cells = [str(row["pieces"]), seconds[0], number(row["ratio"]), seconds[1]]
        cells.append(f"{row['completeness']:.0e}")
        for tolerance, steps in row["steps"].items():
            over = "" if steps else "over "
            cells.append(f"{over}{steps or lines.MOST_STEPS} steps, {over}{number(row['captum'][tolerance], 2)}")
        rows.append([row["title"], *cells, f"{row['reached']:.0e}"])
    head = ["", "pieces", "line CPU s", "x forward", "exact IG CPU s", "completeness"]
    head += [f"captum to {tolerance}, x exact IG" for tolerance in ("1e-3", "1e-6")]
    return f"{LINES}\n{table([*head, f'captum at {lines.MOST_STEPS} steps'], rows)}"


def decision_section(results: list[dict[str, Any]]) -> str:
    """Exact distances, and how far away an attack finds another class."""
    text = DECISIONS.format(
        images=decisions.IMAGES,
        limit=decisions.TIME_LIMIT,
        starts=decisions.STARTS,
        steps=decisions.STEPS,
        turns=decisions.BISECTIONS,
    )
    rows = []
    for row in results:
        if "failure" in row:
            rows.append([row["title"], row["failure"], *[""] * 7])
            continue
        above = max(a / b - 1 for a, b in zip(row["distance"], row["lower"], strict=True))
        over = max(a / b - 1 for a, b in zip(row["pgd"], row["distance"], strict=True))
        cells = [f"{row['accuracy']:.3f}", f"{sum(row['proved'])} of {len(row['proved'])}"]
        cells += [f"{sum(row['distance']) / len(row['distance']):.4f}", f"{above:.0e}"]
        cells += [number(sum(row["seconds"]) / len(row["seconds"])), number(max(row["seconds"])), f"{over:.0%}"]
        rows.append([row["title"], *cells, number(sum(row["pgd seconds"]) / len(row["pgd seconds"]))])
    head = ["", "accuracy", "proved", "mean distance", "above the bound", "mean CPU s", "most CPU s"]
    return f"{text}\n{table([*head, 'PGD too far by up to', 'PGD CPU s'], rows)}"


def planes_section(results: list[dict[str, Any]]) -> str:
    """Exact planes over their floor, and every peer over them."""
    rows, peers = [], [peer for peer in plane_peers.PEERS if any(peer in row for row in results)]
    for row in results:
        if "failure" in row:
            rows.append([row["title"], row["failure"], *[""] * (4 + len(peers))])
            continue
        seconds = min(row["cpu"])
        peak = f"{row['peak_mib']:.0f} ({row['before_mib']:.0f})"
        cells = [f"{row['regions']:,}", f"{row['vertices']:,}", number(seconds), number(seconds / row["floor"]), peak]
        rows.append([row["title"], *cells, *(_peer(row, peer, seconds) for peer in peers)])
    versions = next((row["versions"] for row in results if "versions" in row), {})
    names = [f"{peer} {versions.get(peer, '')}".strip() for peer in peers]
    head = ["", "regions", "vertices", "CPU s", "x floor", "peak MiB", *(f"{name}, x {OURS}" for name in names)]
    return f"{PLANES}\n{table(head, rows)}"


def _peer(row: dict[str, Any], peer: str, seconds: float) -> str:
    if peer not in row:
        return ""
    if "failure" in row[peer]:
        killed = "killed" in row[peer]["failure"]
        return f"over {number(plane_peers.PEER_SECONDS / seconds)}" if killed else row[peer]["failure"]
    other = "" if row[peer]["regions"] == row["regions"] else f" ({row[peer]['regions']:,} regions)"
    return f"{number(row[peer]['cpu'] / seconds)}{other}"


def regions_section(results: list[dict[str, Any]]) -> str:
    """All regions of a box, and a tree of linear programs over them."""
    rows = []
    for row in results:
        if "failure" in row:
            rows.append([row["title"], row["failure"], "", ""])
            continue
        ours, theirs = (row["regions"][who] for who in (OURS, regions.PEER))
        other = "" if ours == theirs else f" ({theirs:,} regions)"
        rows.append([row["title"], f"{ours:,}", number(median(row["cpu"][OURS])), f"{number(row['ratio'])}{other}"])
    versions = {row["version"] for row in results if "version" in row}
    head = ["", "regions", f"{OURS}, CPU s", f"{' '.join([regions.PEER, *versions])}, x {OURS}"]
    return f"{REGIONS}\n{table(head, rows)}"


def surfaces_section(results: list[dict[str, Any]]) -> str:
    """Exact surfaces, edge subdivision, and what marching cubes reach in the same time."""
    rows = []
    for row in results:
        peer = row["subdivision"]
        told = peer if isinstance(peer, str) else f"{number(peer)} ({row['subdivision polygons']:,})"
        if "failure" in row:
            rows.append([row["title"], row["failure"], *[""] * 3, told, *[""] * 4])
            continue
        shape = f"{row['polygons']:,}", str(row["euler"]), number(row["seconds"]), number(row["residual"], 2)
        cubes = f"{row['nodes']}^3", number(row["cubes seconds"]), number(row["mean"], 2), number(row["largest"], 2)
        rows.append([row["title"], *shape, told, *cubes])
    head = [
        "",
        "polygons",
        "Euler",
        "CPU s",
        "\\|f\\|",
        "edge subdivision, CPU s",
        "marching cubes",
        "CPU s",
        "off, mean",
        "off, largest",
    ]
    return f"{SURFACES}\n{table(head, rows)}"


def growth_section(results: list[dict[str, Any]]) -> str:
    """How the cost of planes grows with regions and units."""
    rows = []
    for row in results:
        if "failure" in row:
            rows.append([row["failure"], *[""] * 7])
            continue
        peak = f"{row['peak_mib']:.0f} ({row['before_mib']:.0f})"
        cells = [f"{row['units']:,}", f"{row['regions']:,}", f"{row['vertices']:,}", str(row["tiles"])]
        seconds = [number(row["cpu"]), number(row["cpu"] / row["floor"]), peak]
        rows.append([f"w = {row['width']}, s = {row['side']:g}", *cells, *seconds])
    head = ["", "units", "regions", "vertices in all tiles", "tiles", "CPU s", "x floor", "peak MiB"]
    return f"{GROWTH}\n{table(head, rows)}"


def capture_section(results: list[dict[str, Any]]) -> str:
    """Seconds of the first and the second capture in a process."""
    rows = []
    for row in results:
        if "failure" in row:
            cells = [row["failure"], "", "", ""]
        else:
            cells = [number(median(row[which][clock])) for which in ("first", "second") for clock in ("cpu", "wall")]
        rows.append([row["title"], *cells])
    head = ["", "first CPU s", "wall s", "second CPU s", "wall s"]
    return f"\n## Capture\n\nThe first capture in a process loads much of `torch.export`.\n\n{table(head, rows)}"


def smooth_section(results: list[dict[str, Any]]) -> str:
    """Slopes of smooth networks beside the same modules with their gates detached by hand."""
    text = (
        "\n## Slopes of smooth networks, gates held\n\nTen outputs of 16 images, all pixels, float32, beside what a"
        " user would write: the same weights in a module whose statistics, GELU gates and attention weights are"
        " detached, and one `autograd.grad` for each output. CPU seconds at the median; the ratio is of"
        " rounds; MiB above what the process held before, the median of three processes.\n\n"
    )
    rows = []
    for row in results:
        cells = [f"{row[key]:.3f}" for key in ("detached seconds", "held seconds")] + [f"{row['ratio']:.2f}"]
        cells += [f"{row[key]:.0f}" for key in ("detached MiB", "held MiB")] + [f"{row['error']:.0e}"]
        rows.append([row["title"], *cells])
    return text + table(["", "detached s", "held s", "ratio", "detached MiB", "held MiB", "apart"], rows)


def spectra_section(results: list[dict[str, Any]]) -> str:
    """Singular values of generators beside Jacobians of torch.func."""
    text = (
        "\n## Spectra of generators\n\nAll singular values of A at each latent, float32, beside `torch.linalg.svdvals`"
        " of `torch.func` Jacobians (`vmap(jacfwd)`). CPU milliseconds of each latent at the median; ratios are of"
        " rounds. The floor is one pass of tangents for each latent dimension, which the Jacobians alone take.\n\n"
    )
    rows = []
    for row in results:
        cells = [f"{row[key]:.3g}" for key in ("jacobians ms", "peer ms", "ours ms")]
        cells += [f"{row[key]:.2f}" for key in ("of peer", "of jacobians")]
        cells += [f"{row[key]:.0f}" for key in ("peer MiB", "ours MiB")] + [f"{row['error']:.0e}"]
        rows.append([row["title"], *cells])
    heads = ("Jacobians ms", "torch.func ms", "ours ms", "ratio", "of Jacobians alone", "torch.func MiB", "ours MiB")
    return text + table(["", *heads, "apart"], rows)


def import_section(result: dict[str, Any]) -> str:
    """Seconds of the import."""
    low, high = min(result["wall"]), max(result["wall"])
    return (
        f"\n## Import\n\n`import maxaffine` after `import torch`: median {result['median']:.3f} s wall over "
        f"{len(result['wall'])} interpreters ({low:.3f} to {high:.3f}).\n"
    )


def slopes_page(results: list[dict[str, Any]], outputs: int) -> str:
    """What the floor is, the summary, and one section per network."""
    return SLOPES.format(outputs=outputs) + summary(results) + "".join(slopes_section(result) for result in results)


def page(measured: dict[str, Any], outputs: int) -> str:
    """The whole page, from the tables that were measured."""
    sections = {
        "slopes": partial(slopes_page, outputs=outputs),
        "codes": codes_section,
        "encode": encode_section,
        "distance": distance_section,
        "search": search_section,
        "learning": learning_section,
        "line": line_section,
        "decisions": decision_section,
        "planes": planes_section,
        "regions": regions_section,
        "surfaces": surfaces_section,
        "growth": growth_section,
        "capture": capture_section,
        "smooth": smooth_section,
        "spectra": spectra_section,
        "import": import_section,
    }
    text = INTRODUCTION.format(limit=MEMORY_LIMIT // 2**30)
    for name, section in sections.items():
        if name in measured:
            text += f"{section(measured[name]['numbers'])}\n{measured[name]['of']}\n"
    return text


def renew(folder: Path, measured: dict[str, Any], outputs: int) -> None:
    """Put the measured tables into RESULTS.md and results.json, next to those that are there already."""
    numbers = folder / "results.json"
    known = json.loads(numbers.read_text()) if numbers.exists() else {}
    tables = known | measured
    numbers.write_text(json.dumps(tables, indent=1) + "\n")
    (folder / "RESULTS.md").write_text(page(tables, outputs))
