"""The report of a pruning."""

from typing import NamedTuple


class PruneReport(NamedTuple):
    """Rows that `keras_treegate.prune` freed, and the change that it made.

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
