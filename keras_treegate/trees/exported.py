"""The product of examples and their paths, in the plainest operations.

A file for another runtime can hold gathers and products of matrices, and none
of the loops, compiled functions and gradients that a backend is fast with.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.types import Tensor

# The numbers that are gathered at a time for one example. So few stay in a
# cache between the gather and the product.
CHUNK = 2**17

# Some runtimes compute integers as float32, which has no more of them.
MAX_ROWS = 2**24


class PathRows(NamedTuple):
    """The rows of one table that the paths of examples read, one a tree.

    table: (N, W, Q), of any dtype.
    ids: (B, G), integers.
    factors: (B, G, W) or (B, G, 1), what each row is multiplied by; `None` for
        ones.
    """

    table: Tensor
    ids: Tensor
    factors: Tensor | None


def rows_of(codes: Tensor, trees: int, below: int, size: int) -> Tensor:
    """Returns the rows (B, G) of one level for leaf codes (B, G).

    Args:
        codes: the leaf codes.
        trees: how many, `G`.
        below: the leaves below each row.
        size: the rows of each tree.
    """
    _check_size(trees * size * below)
    # An axis more, because OpenVINO computes a sum over an axis, as in a gate,
    # and an operation that follows on the same axes in one, and wrongly.
    codes = ops.reshape(codes, (-1, trees, 1))
    if below > 1:
        codes = backend.quotient(codes, below)
    first = np.arange(trees, dtype="int32")[:, None] * size
    return ops.reshape(codes + ops.convert_to_tensor(first), (-1, trees))


def _check_size(leaves: int) -> None:
    if leaves > MAX_ROWS:
        raise ValueError(
            f"The layer must have at most {MAX_ROWS:,} leaves in all its trees "
            "to be exported, because some runtimes compute the number of a "
            f"leaf as float32. Received: {leaves:,}. Use fewer or shallower "
            "trees, or save the model, `model.save(path)`, and run it in Keras."
        )


def multiply(trees: TreeShape, x: Tensor, parts: list[PathRows]) -> Tensor:
    """Multiplies inputs, each with the rows that its paths read.

        y[b] = sum over the parts and g of
            (x[b, g] * factors[b, g]) @ table[ids[b, g]]

    Args:
        trees: their sizes.
        x: (B, P).
        parts: what to add up.

    Returns:
        (B, Q), of the dtype of `x`.
    """
    size = max(1, CHUNK // (trees.width * trees.units))
    size = min(size, trees.num_trees)
    total: Tensor = 0
    for table, ids, factors in parts:
        scaled = trees.padded(x)
        if factors is not None:
            blocks = trees.blocks(x) * ops.cast(factors, x.dtype)
            scaled = ops.reshape(blocks, (-1, trees.num_trees * trees.width))
        for first in range(0, trees.num_trees, size):
            last = min(first + size, trees.num_trees)
            chunk = scaled, ids
            if size < trees.num_trees:
                columns = slice(first * trees.width, last * trees.width)
                chunk = scaled[:, columns], ids[:, first:last]
            rows = (last - first) * trees.width
            total = total + _product(*chunk, table, (rows, trees.units))
    return total


def _product(
    x: Tensor, ids: Tensor, table: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Multiplies (B, g * W) with the rows (B, g) of g trees: (B, Q).

    The shape is that of a kernel, (g * W, Q), which a trace would not know.
    """
    rows = backend.gather(table, ops.reshape(ids, (-1,)), 0)  # (B * g, W, Q)
    rows = ops.cast(rows, x.dtype)
    kernels = ops.reshape(rows, (-1, *shape))
    product = ops.matmul(ops.reshape(x, (-1, 1, shape[0])), kernels)
    return ops.reshape(product, (-1, shape[1]))
