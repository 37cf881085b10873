"""The one way in which rooms show progress."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(progress: bool | None, does: str, **options: Any) -> tqdm:
    """Make a progress bar.

    Args:
        progress: True shows it at once, False never, None on a terminal when it takes over two seconds.
        does: What is going on.
        options: Others of tqdm, such as ``iterable``, ``total`` and ``unit``.

    Returns:
        The bar, to be iterated over or used in a with statement.

    >>> list(progress_bar(False, "counting", iterable=range(3)))
    [0, 1, 2]
    """
    disable = None if progress is None else not progress
    return tqdm(desc=does, delay=0 if progress else 2, disable=disable, **options)
