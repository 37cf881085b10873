"""The one way in which rooms show progress."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(progress: bool | None, does: str, **options: Any) -> tqdm:
    """Make a bar of tqdm: True shows it at once, False never; None after two seconds, on a terminal or notebook."""
    if progress is not None:
        options["disable"] = not progress
    elif "ipykernel" not in sys.modules:
        options["disable"] = None  # which leaves it out of files and pipes; a notebook's output looks like one
    return tqdm(desc=does, delay=0 if progress else 2, **options)
