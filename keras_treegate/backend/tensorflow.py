"""Row gradients under TensorFlow, as `tf.IndexedSlices` of distinct ids.

Keras's own optimizers are wrong on slices whose ids repeat, as those of a layer
that is used twice do. So slices are made only for levels that a step-aware
optimizer listens to, and every other optimizer gets a dense gradient.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_treegate import decay
from keras_treegate.backend.count_base import COUNT_BASE, COUNT_BITS
from keras_treegate.backend.row_gradient import RowGradient, merged

# What stands for the number of ids to count while it is not known.
UNKNOWN_IDS = 2**16

# Optimizers write any variable here.
DECAY_STATE_IS_TRAINABLE = False


def _native(variable: Any) -> Any:
    """The `tf.Variable`; an `update_step` may be handed that itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def take_rows(variable: Any, ids: Any, as_rows: bool) -> Any:
    table = _native(variable)
    if not as_rows:
        # The gradient of a reshape is dense.
        return tf.gather(tf.reshape(table, table.shape), ids)
    # Of the resource itself: `ops.take` would copy the table first.
    return tf.gather(table, ids)


def lift(gradient: Any, variable: Any) -> tuple[Any, str | None]:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient, None
    ids, rows = gradient.indices, gradient.values
    num_rows = variable.shape[0]
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        cause = "replicas touch different rows, and their gradients are summed"
        return tf.convert_to_tensor(gradient), cause
    if ids.shape[0] is not None and ids.shape[0] > num_rows:
        cause = "its layer is used more than once, with more ids than rows"
        return tf.convert_to_tensor(gradient), cause
    # One use of a layer has ascending ids; a sum of several repeats them, and
    # may have more of them than there are rows, for batches of unknown size:
    # the slices are for equal shapes.
    distinct = tf.reduce_all(ids[1:] > ids[:-1])
    ids, rows = tf.cond(
        distinct,
        lambda: (ids[:num_rows], rows[:num_rows]),
        lambda: merged(ids, rows, num_rows)[:2],
    )
    return RowGradient(ids, rows, num_rows), None


def read_rows(variable: Any, ids: Any) -> Any:
    if ids is None:
        return tf.convert_to_tensor(_native(variable))
    return tf.gather(_native(variable), ids)


def _write_rows(variable: Any, ids: Any, rows: Any) -> None:
    table = _native(variable)
    rows = tf.cast(rows, table.dtype)
    if ids is None:
        table.assign(rows)
    else:
        table.scatter_update(tf.IndexedSlices(rows, ids))


def update_rows(
    variables: list, ids: Any, gradient: Any, update: Callable
) -> None:
    old = [read_rows(variable, ids) for variable in variables]
    for variable, rows in zip(variables, update(old, gradient), strict=True):
        _write_rows(variable, ids, rows)


def owed_decay(clock: Any, stamps: Any, ids: Any) -> Any:
    return decay.owed(read_rows(clock, None), read_rows(stamps, ids))


def count(low: Any, high: Any, ids: Any) -> None:
    if not isinstance(low.value, tf.Variable):  # in a `StatelessScope`
        words = _counted(low.value, high.value, ids)
        low.assign(words[0])
        high.assign(words[1])
    elif tf.distribute.get_strategy().num_replicas_in_sync == 1:
        _count_in_place(low.value, high.value, ids)
    elif tf.distribute.in_cross_replica_context():
        _count_on_replicas(tf.distribute.get_strategy(), ids, low, high)
    else:
        # Every replica counts the examples of all.
        replica = tf.distribute.get_replica_context()
        replica.merge_call(_count_on_replicas, args=(ids, low, high))


def _count_on_replicas(strategy: Any, ids: Any, low: Any, high: Any) -> None:
    ids = strategy.gather(ids, axis=0)
    strategy.extended.update(
        low.value, _count_in_place, args=(high.value, ids), group=False
    )


def _count_in_place(low: Any, high: Any, ids: Any) -> None:
    if (ids.shape[0] or UNKNOWN_IDS) >= low.shape[0]:
        # No more than the batch itself.
        words = _counted(tf.convert_to_tensor(low), high, ids)
        low.assign(words[0])
        high.assign(words[1])
        return
    # `scatter_add` wants an update for each id, and takes twice as long.
    tf.raw_ops.ResourceScatterAdd(
        resource=low.handle, indices=ids, updates=tf.constant(1)
    )
    full = tf.gather(low, ids)
    carried = tf.gather(high, ids) + tf.bitwise.right_shift(full, COUNT_BITS)
    full = tf.bitwise.bitwise_and(full, COUNT_BASE - 1)
    low.scatter_update(tf.IndexedSlices(full, ids))
    high.scatter_update(tf.IndexedSlices(carried, ids))


def _counted(low: Any, high: Any, ids: Any) -> tuple:
    low = low + tf.math.unsorted_segment_sum(
        tf.ones_like(ids), ids, low.shape[0]
    )
    carry = tf.bitwise.right_shift(low, COUNT_BITS)
    return tf.bitwise.bitwise_and(low, COUNT_BASE - 1), high + carry
