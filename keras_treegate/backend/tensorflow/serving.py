"""Leaf codes and the outputs of a folded layer."""

from collections.abc import Callable

import tensorflow as tf

from keras_treegate.backend.common import folded
from keras_treegate.backend.tensorflow.exporting import gather
from keras_treegate.backend.tensorflow.paths import path_product
from keras_treegate.backend.tensorflow.rows import compiled, lies_in_place
from keras_treegate.core import codes as formulas
from keras_treegate.core.rows import FoldedTables
from keras_treegate.types import Tensor

# The numbers that are gathered at a time for one example.
PART_SIZE = 2**18


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    # Not compiled by itself: TensorFlow would keep a graph of each model.
    return _sign_codes(inputs, units, thresholds, shape)


def _sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    return formulas.sign_codes(inputs, units, thresholds, shape, gather)


def hash_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    return compiled(formulas.hash_codes)(
        tokens,
        tf.convert_to_tensor(token_multipliers),
        tf.convert_to_tensor(hash_multipliers),
        hashes,
    )


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    product: Callable[..., Tensor] = path_product
    if not tf.executing_eagerly() and inputs.shape[:-1].num_elements() == 1:
        product = _product_of_one
        if lies_in_place(tables.table):  # it is not copied, as XLA's input is
            return folded.outputs(
                inputs, tables, codes, product, table=tables.table
            )
    return folded.outputs(inputs, tables, codes, product)


def _product_of_one(inputs: Tensor, table: Tensor, slots: Tensor) -> Tensor:
    """Multiplies one example with the rows of its slots, some trees at a time.

    So few rows stay in a cache between the gather and the product.
    """
    trees, (width, units) = slots.shape[0], table.shape[1:]
    size = max(1, PART_SIZE // (width * units))
    total = tf.zeros((1, units), inputs.dtype)
    for first in range(0, trees, size):
        rows = tf.gather(table, slots[first : first + size, 0])
        kernel = tf.reshape(tf.cast(rows, inputs.dtype), (-1, units))
        x = tf.reshape(inputs[:, first : first + size], (1, -1))
        total += tf.matmul(x, kernel)
    return total
