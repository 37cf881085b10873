"""The one way in which rooms cut long work into pieces that fit in memory."""

from collections.abc import Iterator


def slices(count: int, size: int) -> Iterator[slice]:
    """Cut the numbers 0 to count - 1 into runs of a size (at least 1), the last of which may be shorter."""
    size = max(1, size)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
