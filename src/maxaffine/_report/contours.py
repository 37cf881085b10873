"""A value over a plane as bands between exact level sets, as the pages of this room ask for it."""

from __future__ import annotations

from maxaffine._partition import Contours, PlanePartition


def contours_of(partition: PlanePartition, output: int) -> Contours:
    """Find the level sets of one output at round values.

    Args:
        partition: The plane.
        output: Flat number of the output.

    Returns:
        At most about nine bands.
    """
    return partition.contours(output)
