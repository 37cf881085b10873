"""The one way in which rooms cut long work into pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator


def slices(count: int, size: int) -> Iterator[slice]:
    """Cut the numbers 0 to count - 1 into runs.

    Args:
        count: How many there are.
        size: Length of a run, the last of which may be shorter; less than 1 is taken as 1.

    Yields:
        The runs, none where count is 0; all of them end within count.

    >>> list(slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, size)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
