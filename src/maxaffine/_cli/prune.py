"""``maxaffine prune``: which units of a network are idle or redundant, and a smaller module without them."""

import argparse
import json
from pathlib import Path

import torch

from maxaffine import _models as models
from maxaffine import _report as report
from maxaffine._drawing import new_figure, png
from maxaffine._pruning import Audit, Simplified, audit, simplify
from maxaffine.errors import BadInput

from .arguments import DONE, add_command, answer, numbers, positive, progress, say
from .loading import subject_and_folder

EXAMPLES = """examples:
  maxaffine prune                                               the cnn for digits
  maxaffine prune resnet fashion-mnist --epochs 5 --bounds=0,1  what holds for every image, proved
  maxaffine prune my_package.nets:make mine.npz --state-dict weights.safetensors -o smaller

It writes audit.json, its figure, and of the smaller module the weights (smaller.safetensors) and the whole of it
(smaller.pt2, which any command takes as a model). Structures that are not exactly removable are torch-pruning's job.
"""
AUDIT, WHOLE, SMALLER, FIGURE = "audit.json", "smaller.pt2", "smaller.safetensors", "audit.png"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    does = "find idle and redundant units, and remove what is exactly removable"
    option = add_command(commands, "prune", run, does, EXAMPLES, out="maxaffine-prune")
    does = "least and largest number of every input: remove only what is proved between"
    option("--bounds", does, numbers, metavar="L,H")
    option("--limit", "training inputs to look at (default: all)", positive)


def run(arguments: argparse.Namespace) -> int:
    """Audit and simplify, and write both."""
    bounds = arguments.bounds
    if bounds is not None and len(bounds) != 2:
        raise BadInput(f"--bounds: {len(bounds)} numbers; give the least and the largest, e.g. --bounds=0,1")
    with subject_and_folder(arguments, task=arguments.task) as (subject, folder):
        if subject.model is None:
            raise BadInput("--model: there is no module to make smaller; give a factory or a file of one")
        inputs = subject.like(subject.data.train.inputs[: arguments.limit])
        progress("auditing ...")
        found = audit(subject.net, inputs, bounds)
        say(arguments, str(found))
        progress("simplifying ...")
        smaller = simplify(subject.model, inputs, bounds)
        say(arguments, str(smaller))
        files = _write(found, smaller, inputs, folder)
    facts = {"files": [str(arguments.out / name) for name in files], "audit": found.to_dict()}
    answer(arguments, facts | smaller.to_dict(), "\n".join(f"wrote {arguments.out / name}" for name in files))
    return DONE


def _write(found: Audit, smaller: Simplified, inputs: torch.Tensor, folder: Path) -> list[str]:
    (folder / report.FIGURES).mkdir()
    figure = new_figure(6.5, 1.2 + 0.32 * len(found.layers))
    found.plot(figure.subplots())
    (folder / report.FIGURES / FIGURE).write_bytes(png(figure))
    text = json.dumps({"audit": found.to_dict(), "simplified": smaller.to_dict()}, indent=1)
    (folder / AUDIT).write_text(text + "\n", encoding="utf-8")
    models.save_weights(smaller.model, folder / SMALLER)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(smaller.model.eval(), (inputs[:2],), dynamic_shapes=({0: batch},))
    torch.export.save(exported, folder / WHOLE)
    return [AUDIT, f"{report.FIGURES}/{FIGURE}", SMALLER, WHOLE]
