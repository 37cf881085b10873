"""Write the pictures of the published networks, and what was measured on them into the page that shows them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from examples.real_networks import dcgan, efficientnet, mtcnn

STUDIES = {"efficientnet-lite0": efficientnet.study, "dcgan": dcgan.study, "mtcnn": mtcnn.study}
DOCS = Path(__file__).resolve().parents[2] / "docs"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The words after the command; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.real_networks", description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(STUDIES)}; all by default")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of real-networks.md and of images/")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.networks) - set(STUDIES))
    if unknown:
        parser.error(f"networks: {unknown} are not known; there are {sorted(STUDIES)}")
    torch.set_num_threads(1)
    images, page = options.docs / "images", options.docs / "real-networks.md"
    networks = options.networks or list(STUDIES)
    text = page.read_text(encoding="utf-8")
    for name in networks:
        filled(text, name, "")  # a page that cannot take the numbers is refused before they are measured
    images.mkdir(parents=True, exist_ok=True)
    for name in networks:
        measured = STUDIES[name](images)
        text = filled(text, name, measured)
        page.write_text(text, encoding="utf-8")
        print(measured)


def filled(page: str, name: str, measured: str) -> str:
    """Put what was measured between a page's two comments for a network.

    Args:
        page: The page's text.
        name: The network's name in ``<!-- measured: NAME -->`` and ``<!-- end: NAME -->``.
        measured: What stands between them from now on.

    Returns:
        The page's new text.

    Raises:
        ValueError: When the page lacks the comments.
    """
    start, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    if not 0 <= page.find(start) < page.find(end):
        raise ValueError(f"page: it lacks the comments {start} and {end}, between which the numbers go")
    return re.sub(f"{start}.*{end}", lambda _: f"{start}\n{measured}{end}", page, flags=re.DOTALL)


if __name__ == "__main__":
    main()
