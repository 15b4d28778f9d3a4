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
    write: Callable[[Tensor, int, Tensor], None],
) -> None:
    """Pays what rows owe at a time, and writes it to their stamps.

    Each part gets its stamps at once. So an interrupt loses no decay, and no
    row pays twice.

    Args:
        table: (N, ...), a variable of the framework, or its tensor.
        stamps: (N, 2), the same.
        time: (2,), of a clock whose sign is not negative.
        write: A function that writes rows into a table from a number on.
    """
    size = max(1, PART // max(1, math.prod(table.shape[1:])))
    for start in range(0, table.shape[0], size):
        then = stamps[start : start + size]
        owed = decay.owed_at(time, False, then)
        rows = decay.decayed(table[start : start + size], owed)
        write(table, start, rows)
        write(stamps, start, ops.broadcast_to(time, then.shape))
