"""The tables and the figure of the page, from the finished cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from studies.cells import Record
from studies.intervals import interval
from studies.page import table

from .measuring import CRITERIA, DATA, NETWORKS, RATIOS

TITLES = {"digits": "digits", "fashion-mnist": "Fashion-MNIST", "cnn": "CNN", "resnet": "ResNet"}
NAMES = {"spline": "boundary distance", "gamma": "size of γ", "l1": "L1", "random": "random"}
COLORS = {"spline": "#b2182b", "gamma": "#2166ac", "l1": "#1b7837", "random": "#777777"}
Kind = tuple[str, str]  # data and network


def bits(text: str, count: int) -> np.ndarray:
    """Which test inputs were right, (count,), of what was recorded."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(float)


def kinds(found: Sequence[Record]) -> list[Kind]:
    """The kinds of networks with cells, in order."""
    there = {(one["settings"]["data"], one["settings"]["network"]) for one in found}
    return [(data, network) for data in DATA for network in NETWORKS if (data, network) in there]


def of(found: Sequence[Record], kind: Kind) -> list[Record]:
    """What was found of one kind, seed by seed."""
    return [one["found"] for one in found if (one["settings"]["data"], one["settings"]["network"]) == kind]


def rights(cells: Sequence[Record], kind: Kind, criterion: str, ratio: float, moment: str = "after") -> np.ndarray:
    """Which test inputs the pruned networks answer correctly, (seeds, inputs)."""
    texts = [one["pruned"][f"{criterion}-{ratio}"][moment] for one in cells]
    return np.stack([bits(text, DATA[kind[0]]["test"]) for text in texts])


def dense(cells: Sequence[Record], kind: Kind) -> np.ndarray:
    """The same of the whole networks."""
    return np.stack([bits(one["dense"], DATA[kind[0]]["test"]) for one in cells])


def title(kind: Kind) -> str:
    """Its name."""
    return f"{TITLES[kind[1]]}, {TITLES[kind[0]]}"


def _percent(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f}"


def accuracies(found: Sequence[Record]) -> str:
    """Test accuracy after retraining, mean over seeds."""
    rows = []
    for kind in kinds(found):
        cells = of(found, kind)
        for ratio in RATIOS:
            share = np.mean([one["pruned"][f"spline-{ratio}"]["operations"] / one["operations"] for one in cells])
            means = [_percent(rights(cells, kind, criterion, ratio)) for criterion in CRITERIA]
            rows.append([title(kind), f"{ratio:.0%}", _percent(dense(cells, kind)), *means, f"{share:.0%}"])
    return table(["network", "pruned", "whole", *NAMES.values(), "operations left"], rows)


def paired(found: Sequence[Record], moment: str) -> str:
    """The boundary distance less each other criterion, in points of accuracy, paired by seed and input."""
    rows = []
    for kind in kinds(found):
        cells = of(found, kind)
        for ratio in RATIOS:
            own = rights(cells, kind, "spline", ratio, moment)
            gaps = [interval(own - rights(cells, kind, other, ratio, moment)) for other in CRITERIA[1:]]
            rows.append([title(kind), f"{ratio:.0%}", *gaps])
    return table(["network", "pruned", *(f"less {NAMES[other]}" for other in CRITERIA[1:])], rows)


def tickets(found: Sequence[Record]) -> str:
    """What the early bird gives, against the whole network."""
    rows = []
    for kind in kinds(found):
        cells = of(found, kind)
        for name, word in (("inputs", "training inputs"), ("canvas", "random canvas")):
            drawn = [
                (one, whole) for one, whole in zip(cells, dense(cells, kind), strict=True) if name in one["ticket"]
            ]
            settled = [one["settled"][name] for one in cells]
            row = [title(kind), word, ", ".join("none" if at is None else str(at) for at in settled)]
            if drawn:
                own = np.stack([bits(one["ticket"][name]["after"], DATA[kind[0]]["test"]) for one, _ in drawn])
                whole = np.stack([line for _, line in drawn])
                share = np.mean([one["ticket"][name]["training"] for one, _ in drawn])
                row += [_percent(own), interval(own - whole), f"{share:.0%}"]
            else:
                row += ["", "", ""]
            rows.append(row)
    head = [
        "network",
        "watched on",
        "settled after epoch, by seed",
        "accuracy",
        "less the whole network",
        "training operations",
    ]
    return table(head, rows)


def overlaps(found: Sequence[Record]) -> str:
    """How much of the final mask is there at moments of the training."""
    rows = []
    for kind in kinds(found):
        cells = of(found, kind)
        for criterion in ("spline", "gamma"):
            shares = np.array([one["overlap"][criterion] for one in cells])
            places = [0, shares.shape[1] // 4, shares.shape[1] // 2, 3 * shares.shape[1] // 4]
            rows.append([title(kind), NAMES[criterion], *(f"{shares[:, at].mean():.2f}" for at in places)])
    return table(["network", "criterion", "after 1 epoch", "a quarter", "half", "three quarters"], rows)


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table, by the name of its place in the page."""
    return {
        "accuracies": accuracies(found),
        "paired": paired(found, "after"),
        "before": paired(found, "before"),
        "tickets": tickets(found),
        "overlaps": overlaps(found),
    }


def draw(found: Sequence[Record], folder: Path) -> None:
    """Accuracy against what is pruned, by criterion, one panel for each kind of network."""
    if not kinds(found):
        return
    places = [100 * ratio for ratio in RATIOS]
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for ax, kind in zip(figure.subplots(1, len(kinds(found)), squeeze=False)[0], kinds(found), strict=True):
        cells = of(found, kind)
        whole = 100 * dense(cells, kind).mean()
        ax.axhline(whole, color="black", linewidth=0.8, linestyle=":")
        for criterion in CRITERIA:
            lines = np.array([100 * rights(cells, kind, criterion, ratio).mean(1) for ratio in RATIOS])
            ax.plot(places, lines.mean(1), color=COLORS[criterion], marker="o", markersize=3, label=NAMES[criterion])
            ax.fill_between(places, lines.min(1), lines.max(1), color=COLORS[criterion], alpha=0.12, linewidth=0)
        ax.set_title(title(kind), fontsize=9)
        ax.set_xlabel("channels pruned, %", fontsize=8)
        ax.set_xticks(places)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy, %", fontsize=8)
    figure.axes[0].legend(fontsize=7, loc="lower left")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "accuracy.png", dpi=150)
