"""Rows of tables under TensorFlow: read and written, with their decay."""

import tensorflow as tf

from keras_treegate.backend.tensorflow.in_place import native
from keras_treegate.core import decay
from keras_treegate.types import Tensor, Variable

# Optimizers write any variable here.
DECAY_STATE_IS_TRAINABLE = False


def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
    if ids is None:
        return tf.convert_to_tensor(native(variable))
    return tf.gather(native(variable), ids)


def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
    table = native(variable)
    rows = tf.cast(rows, table.dtype)
    # A slice is assigned by a copy of the whole variable.
    ids = tf.range(start, start + rows.shape[0])
    table.scatter_update(tf.IndexedSlices(rows, ids))


read_clocks = decay.read_clocks


def owed_decay(clock: Variable, stamps: Variable, ids: Tensor | None) -> Tensor:
    return decay.owed(read_rows(clock, None), read_rows(stamps, ids))


def is_dense(value: object) -> bool:
    return not isinstance(value, tf.SparseTensor | tf.RaggedTensor)
