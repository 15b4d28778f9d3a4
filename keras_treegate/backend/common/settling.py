"""Decay that is paid in parts of a table, so that no second table is needed."""

import math
from collections.abc import Callable

from keras import ops

from keras_treegate.core import decay
from keras_treegate.types import Tensor

# The numbers of a table that are paid at a time.
PART = 2**22


def pay_in_parts(
    table: Tensor,
    stamps: Tensor,
    time: Tensor,
    read: Callable[[Tensor, int, int], Tensor],
    write: Callable[[Tensor, int, Tensor], None],
) -> None:
    """Pays what rows owe at a time, and writes it to their stamps.

    Each part gets its stamps when it is written. So an interrupt between two
    parts loses no decay, and no row pays twice.

    Args:
        table: (N, ...), a variable of the framework, or its tensor.
        stamps: (N, 2), the same.
        time: (2,), of a clock whose sign is not negative.
        read: A function that returns the rows of a table from a number to
            another, without a copy of the whole table.
        write: A function that writes rows into a table from a number on,
            without such a copy.
    """
    num_rows, *row_shape = table.shape
    size = max(1, PART // max(1, math.prod(row_shape)))
    for start in range(0, num_rows, size):
        end = min(start + size, num_rows)
        then = read(stamps, start, end)
        owed = decay.owed_at(time, False, then)
        write(table, start, decay.decayed(read(table, start, end), owed))
        write(stamps, start, ops.broadcast_to(time, then.shape))
