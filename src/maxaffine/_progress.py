"""The one way in which rooms show progress."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(progress: bool | None, does: str, **options: Any) -> tqdm:
    """Make a bar of tqdm: True shows it at once, False never; None after two seconds, on a terminal or notebook."""
    if progress is not None:
        options["disable"] = not progress
    elif not _in_notebook():
        options["disable"] = None  # which leaves it out of files and pipes; a notebook's output looks like one
    return tqdm(desc=does, delay=0 if progress else 2, **options)


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel; one that has merely imported its packages is not."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")
