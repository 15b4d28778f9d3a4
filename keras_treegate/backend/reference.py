"""Path sums and path products in `keras.ops` alone.

Slow and plain, right on every backend; what a fast path is tested against.
"""

from typing import Any

from keras import ops


def path_sums(levels: list[Any], parents: list[Any]) -> Any:
    """Sums the rows along the path to each slot of the deepest level.

    Args:
        levels: for each level l = 0..D, the rows of its slots (G, U_l, W, Q).
        parents: for each level, the slot of the parent of each slot (G * U_l,),
            or `None` where slot `s` has the parent `s // 2`.

    Returns:
        (G, U_D, W, Q): for each slot the sum of its row and those above it.
    """
    sums = levels[0]
    for rows, parent in zip(levels[1:], parents[1:], strict=True):
        if parent is None:
            sums = ops.repeat(sums, 2, axis=1)
        else:
            sums = ops.reshape(take_slots(sums, parent), ops.shape(rows))
        sums = sums + rows
    return sums


def take_slots(table: Any, slots: Any) -> Any:
    """Rows (R, W, Q) of a table (G, U, W, Q), by slots over all trees (R,)."""
    width, units = table.shape[2:]
    flat = ops.reshape(table, (-1, width * units))
    return ops.reshape(ops.take(flat, slots, axis=0), (-1, width, units))


def path_product(inputs: Any, sums: Any, slots: Any) -> Any:
    """Multiplies each example with the path sum of its own slot in each tree.

        y[b] = sum over g, w of inputs[b, g, w] * sums[slots[g, b], w]

    Args:
        inputs: (B, G, W).
        sums: (G, U, W, Q), of the same dtype.
        slots: (G, B), integers, counted over all trees.

    Returns:
        (B, Q).
    """
    num_trees, _, width, units = sums.shape
    kernels = take_slots(sums, ops.reshape(slots, (-1,)))
    kernels = ops.reshape(kernels, (num_trees, -1, width, units))
    return ops.einsum("bgw,gbwq->bq", inputs, kernels)
