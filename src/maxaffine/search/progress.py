"""The one way in which the room shows progress."""

from __future__ import annotations

from tqdm import tqdm


def shown(progress: bool | None, does: str, unit: str, total: int, initial: int = 0) -> tqdm:
    """Make a progress bar.

    Args:
        progress: True shows it at once, False never, None on a terminal when it takes over two seconds.
        does: What is going on.
        unit: What is counted; ``"B"`` for bytes.
        total: How many there are.
        initial: How many were done before.

    Returns:
        The bar, to be used in a with statement.
    """
    return tqdm(
        total=total,
        initial=initial,
        desc=does,
        unit=unit,
        unit_scale=unit in ("B", "pair"),
        delay=0 if progress else 2,
        disable=None if progress is None else not progress,
    )
