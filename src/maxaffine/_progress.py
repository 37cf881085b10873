"""The one way in which rooms show progress."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(progress: bool | None, does: str, **options: Any) -> tqdm:
    """Make a bar of tqdm: True shows it at once, False never, None on a terminal when it takes over two seconds."""
    disable = None if progress is None else not progress
    return tqdm(desc=does, delay=0 if progress else 2, disable=disable, **options)
