"""What pruning did."""

from typing import NamedTuple


class PruneReport(NamedTuple):
    """What `keras_treegate.prune` freed, and what it changed.

    Args:
        rows: The rows of all levels before.
        rows_freed: How many of them are no longer used.
        largest_change: The largest change of an output on the data that was
            given; `None` without data.

    Example:

    >>> from keras_treegate.transforms import PruneReport
    >>> PruneReport(rows=30, rows_freed=12, largest_change=None).rows_freed
    12
    """

    rows: int
    rows_freed: int
    largest_change: float | None
