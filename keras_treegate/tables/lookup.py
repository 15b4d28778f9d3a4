"""Lookups of rows by ids that may repeat."""

from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.core.numerics import at_least_float32
from keras_treegate.core.rows import UNKNOWN_BATCH
from keras_treegate.tables.row_table import RowTable
from keras_treegate.types import Tensor


def look_up(table: RowTable, ids: Tensor) -> Tensor:
    """Returns the rows (B, ...) of ids (B,), with the decay that they owe.

    Each row is read once, however often its id is in the batch, and has one
    gradient: the sum of those of its places. A table of no more rows than ids
    is read whole, with a dense gradient, because that is cheaper.

    Args:
        table: (N, ...).
        ids: int32 (B,), in bounds.
    """
    count = ops.shape(ids)[0]
    static = count if isinstance(count, int) else None
    if static == 0:
        # Without a row there would be no gradient; that of this one is zero.
        one = ops.concatenate([ids, ops.zeros((1,), ids.dtype)])
        return look_up(table, one)[:0]
    if static is None and not ops.is_tensor(count):
        return look_up_plainly(table, ids)  # no number of rows can be a symbol
    num_rows = table.values.shape[0]
    if num_rows <= (UNKNOWN_BATCH if static is None else static):
        return backend.spread_rows(table.read(), ids)
    rows, positions = backend.distinct_ids(ids, num_rows)
    return backend.spread_rows(table.read(rows), positions)


def look_up_plainly(table: RowTable, ids: Tensor) -> Tensor:
    """Returns the same in operations that any file can hold.

    The ids may have any shape here. It is for outputs alone: the gradient of
    the table is dense.
    """
    rows = backend.gather(table.values.value, ids, 0)
    stamps = backend.gather(table.stamps.value, ids, 0)
    owed = decay.owed(table.clock.value, stamps)
    for _ in range(len(rows.shape) - len(owed.shape)):
        owed = ops.expand_dims(owed, -1)
    dtype = at_least_float32(rows)
    settled = ops.cast(rows, dtype) * ops.cast(owed, dtype)
    return ops.cast(settled, rows.dtype)
