"""The published DCGAN of faces: its spectrum, its volume, and what polarity makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

import maxaffine as ma
from examples.real_networks.published import dcgan_generator

LATENTS, CANDIDATES, SHOWN = 100, 300, 10


def measure(folder: Path) -> dict[str, Any]:
    """Volumes of random faces, with the tanh; draws the most and the least typical ones."""
    torch.manual_seed(0)
    z = torch.randn(CANDIDATES, LATENTS, 1, 1)
    model = dcgan_generator()
    net = ma.capture(model, z[:2], output="pre_activation")
    values = ma.generators.spectrum(net, z, head=True).double()
    logs = values.log().sum(1)
    with torch.no_grad():
        faces = model(z)
    order = logs.argsort()
    middle = len(order) // 2 - SHOWN // 2
    rows = {
        "smallest volume": order[:SHOWN],
        "in the middle": order[middle : middle + SHOWN],
        "largest volume": order[-SHOWN:],
    }
    _draw(faces, rows, folder / "faces.png")
    weights = {rho: (rho * logs).softmax(0) for rho in (-1.0, -0.1, 0.1, 1.0)}
    return {
        "spectrum": values.median(0).values[[0, 9, 49, 99]].tolist(),
        "dimension": int(ma.generators.local_dimension(net, z[:20], head=True).dimensions.min()),
        "mean": float(logs.mean()),
        "spread": float(logs.std()),
        "effective": {str(rho): float(1 / w.square().sum()) / len(w) for rho, w in weights.items()},
        "contrast": float(torch.corrcoef(torch.stack([logs, faces.flatten(1).std(1).double()]))[0, 1]),
    }


def _draw(faces: Tensor, rows: dict[str, Tensor], path: Path) -> None:
    figure = Figure(figsize=(SHOWN, 3.4), layout="constrained")
    for ax, (title, places) in zip(figure.subplots(3, 1), rows.items(), strict=True):
        strip = torch.cat([(face / 2 + 0.5).movedim(0, 2) for face in faces[places]], 1)
        ax.imshow(strip.numpy())
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
