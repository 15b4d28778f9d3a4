"""Leaf sums and path products in `keras.ops` alone.

They are slow and plain, but right on every backend, and the fast paths are
tested against them.
"""

from functools import reduce

from keras import ops

from keras_treegate.core.rows import BatchRows
from keras_treegate.types import Tensor


def leaf_sums(parts: list[Tensor], rows: BatchRows) -> Tensor:
    """Returns the sum of the rows along the path to each leaf that is read.

    Args:
        parts: the rows of each level that the batch needs, with their decay.
        rows: which rows these are.

    Returns:
        (G * U, W, Q), of the dtype of the nodes.
    """
    parts = list(parts)
    whole = rows.whole
    if whole:
        parts[:whole] = [reduce(with_children, parts[:whole])]
    positions = [
        needed.positions for needed in rows.levels[max(whole - 1, 0) :]
    ]
    return reduce(ops.add, map(rows_at_positions, parts, positions))


def with_children(sums: Tensor, children: Tensor) -> Tensor:
    """Adds sums (N, W, Q) to the rows (N * 2^k, W, Q) of a level below."""
    below = ops.reshape(children, (sums.shape[0], -1, *children.shape[1:]))
    return ops.reshape(ops.expand_dims(sums, 1) + below, children.shape)


def rows_at_positions(table: Tensor, positions: Tensor | None) -> Tensor:
    """Returns rows (R, W, Q) of a table (N, W, Q); all if there is no index."""
    if positions is None:
        return table
    width, units = table.shape[1:]
    flat = ops.reshape(table, (-1, width * units))
    return ops.reshape(ops.take(flat, positions, axis=0), (-1, width, units))


def path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes `path_product` as `backend.contract` describes it."""
    width, units = sums.shape[1:]
    kernels = rows_at_positions(sums, ops.reshape(positions, (-1,)))
    kernels = ops.cast(kernels, inputs.dtype)
    kernels = ops.reshape(kernels, (positions.shape[0], -1, width, units))
    return ops.einsum("bgw,gbwq->bq", inputs, kernels)
