"""The product of an example with its paths, in the plainest operations.

A file for another runtime can hold gathers and products of matrices, and none
of the loops, compiled functions and gradients that a backend is fast with.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core.rows import TreeShape
from keras_treegate.types import Tensor

# The numbers that are gathered at a time for one example. Few enough to stay in
# a cache between the gather and the product, and enough to be worth two calls.
CHUNK = 2**17


class PathRows(NamedTuple):
    """The row of a table that each tree of an example reads.

    table: (N, W, Q), of any dtype.
    ids: (B, G), integers.
    factors: (B, G, W) or (B, G, 1), what each row is multiplied by; `None` for
        ones.
    """

    table: Tensor
    ids: Tensor
    factors: Tensor | None


def rows_of(codes: Tensor, below: int, size: int) -> Tensor:
    """Returns the rows (B, G) of one level for the leaf codes (B, G).

    Args:
        codes: the leaf codes.
        below: the leaves below each row.
        size: the rows of each tree.
    """
    trees = codes.shape[1]
    # An axis more, because OpenVINO computes a sum over an axis, as in a gate,
    # and an operation that follows on the same axes in one, and wrongly.
    codes = ops.reshape(codes, (-1, trees, 1))
    first = np.arange(trees, dtype="int32")[:, None] * size
    rows = backend.quotient(codes, below) + ops.convert_to_tensor(first)
    return ops.reshape(rows, (-1, trees))


def multiply(trees: TreeShape, x: Tensor, parts: list[PathRows]) -> Tensor:
    """Multiplies inputs (B, P) with the sums of rows: (B, Q).

    y[b] = sum over the parts and g of
        (x[b, g] * factors[b, g]) @ table[ids[b, g]]
    """
    blocks = trees.blocks(x)
    size = max(1, CHUNK // (trees.width * trees.units))
    total: Tensor = 0
    for table, ids, factors in parts:
        scaled = blocks
        if factors is not None:
            scaled = blocks * ops.cast(factors, x.dtype)
        for first in range(0, trees.num_trees, size):
            chunk = slice(first, min(first + size, trees.num_trees))
            total = total + _of_chunk(
                scaled[:, chunk], table, ids[:, chunk], chunk.stop - first
            )
    return total


def _of_chunk(x: Tensor, table: Tensor, ids: Tensor, trees: int) -> Tensor:
    """Multiplies (B, g, W) with the rows (B, g): (B, Q)."""
    width, units = table.shape[1:]
    rows = ops.cast(backend.gather(table, ids), x.dtype)  # (B, g, W, Q)
    kernels = ops.reshape(rows, (-1, trees * width, units))
    x = ops.reshape(x, (-1, 1, trees * width))
    return ops.reshape(ops.matmul(x, kernels), (-1, units))
