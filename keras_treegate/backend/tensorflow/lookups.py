"""Lookups of ids that may repeat, under TensorFlow."""

import tensorflow as tf

from keras_treegate.backend.common import lookups
from keras_treegate.backend.common.lookups import OUT_OF_BOUNDS
from keras_treegate.backend.tensorflow.compiling import compiled
from keras_treegate.core.rows import rows_of_sorted_ids
from keras_treegate.types import Tensor


def spread_rows(rows: Tensor, positions: Tensor) -> Tensor:
    # Because of the third axis the gradient is one scatter, and not slices.
    index = tf.reshape(positions, (-1, 1, 1))
    return tf.squeeze(tf.gather_nd(rows, index), 1)


def bounded_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor | None]:
    outside = tf.logical_or(ids < 0, ids >= num_rows)
    check = tf.debugging.Assert(
        tf.logical_not(tf.reduce_any(outside)),
        [OUT_OF_BOUNDS.format(num_rows - 1), tf.boolean_mask(ids, outside)],
    )
    # XLA leaves the check out, so that places outside are marked as well.
    with tf.control_dependencies([] if check is None else [check]):
        bounded = tf.clip_by_value(ids, 0, num_rows - 1)
        return tf.cast(bounded, tf.int32), outside


def distinct_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    return lookups.distinct_ids(ids, num_rows, compiled(rows_of_sorted_ids))
