"""Lookups of ids that may repeat: what the backends share."""

from collections.abc import Callable

from keras import ops

from keras_treegate.types import Tensor

# The error for ids of no row, with the largest id that there is.
OUT_OF_BOUNDS = (
    "`inputs` must be ids from 0 to {}, or negative ones that count from the "
    "end. Clip them, or raise `input_dim`. Received:"
)


def distinct_ids(
    ids: Tensor, num_rows: int, rows_of: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns min(B, N) rows and the position of each id, see `Backend`.

    Args:
        ids: int32 (B,), in bounds.
        num_rows: N.
        rows_of: `core.rows.rows_of_sorted_ids`, or a compiled form of it.
    """
    rows = rows_of(ops.sort(ids), num_rows)
    # Faster than to sort an index along with the ids. It is not compiled,
    # because XLA under TensorFlow compares each id with each row.
    return rows, ops.cast(ops.searchsorted(rows, ids), "int32")
