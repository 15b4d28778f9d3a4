"""The outputs of a folded layer."""

from collections.abc import Callable

import tensorflow as tf

from keras_treegate.backend.common import folded
from keras_treegate.backend.tensorflow.in_place import lies_in_place
from keras_treegate.backend.tensorflow.products import (
    path_product,
    product_in_place,
)
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Tensor

# The numbers that are gathered at a time for one example.
PART_SIZE = 2**18


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    product: Callable[..., Tensor] = path_product
    if tf.executing_eagerly() or inputs.shape[:-1].num_elements() != 1:
        return folded.outputs(inputs, tables, codes, product)
    product, table = _product_by_parts, None
    if lies_in_place(tables.table):  # it is not copied, as XLA's input is
        table = tables.table
        # XLA would cast all of bfloat16 first, and other devices are as fast.
        if table.dtype != tf.bfloat16 and "CPU" in table.device:
            product = product_in_place
    return folded.outputs(inputs, tables, codes, product, table=table)


def _product_by_parts(
    inputs: Tensor, table: Tensor, positions: Tensor
) -> Tensor:
    """Multiplies one example with its rows, the rows of some trees at a time.

    So few rows stay in a cache between the gather and the product.
    """
    trees, (width, units) = positions.shape[0], table.shape[1:]
    size = max(1, PART_SIZE // (width * units))
    total = tf.zeros((1, units), inputs.dtype)
    for first in range(0, trees, size):
        rows = tf.gather(table, positions[first : first + size, 0])
        kernel = tf.reshape(tf.cast(rows, inputs.dtype), (-1, units))
        x = tf.reshape(inputs[:, first : first + size], (1, -1))
        total += tf.matmul(x, kernel)
    return total
