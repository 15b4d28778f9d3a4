"""Counts in two words of 32 bits under TensorFlow, on replicas too."""

import tensorflow as tf

from keras_treegate.core.numerics import COUNTER_BITS, COUNTER_RADIX
from keras_treegate.types import Tensor, Variable

# Stands for the number of ids to count while it is not known.
UNKNOWN_IDS = 2**16


def count(
    low: Variable, high: Variable, ids: Tensor, added: Tensor | None
) -> None:
    if not isinstance(low.value, tf.Variable):  # in a `StatelessScope`
        words = _counted(low.value, high.value, ids, added)
        low.assign(words[0])
        high.assign(words[1])
    elif tf.distribute.get_strategy().num_replicas_in_sync == 1:
        _count_in_place(low.value, high.value, ids, added)
    elif tf.distribute.in_cross_replica_context():
        strategy = tf.distribute.get_strategy()
        _count_on_replicas(strategy, ids, added, low, high)
    else:
        # Every replica counts the examples of all.
        replica = tf.distribute.get_replica_context()
        replica.merge_call(_count_on_replicas, args=(ids, added, low, high))


def _count_on_replicas(
    strategy: tf.distribute.Strategy,
    ids: Tensor,
    added: Tensor | None,
    low: Variable,
    high: Variable,
) -> None:
    ids = strategy.gather(ids, axis=0)
    if added is not None:
        added = strategy.gather(added, axis=0)
    strategy.extended.update(
        low.value, _count_in_place, args=(high.value, ids, added), group=False
    )


def _count_in_place(
    low: Tensor, high: Tensor, ids: Tensor, added: Tensor | None
) -> None:
    if (ids.shape[0] or UNKNOWN_IDS) >= low.shape[0]:
        # No more than the batch itself.
        words = _counted(tf.convert_to_tensor(low), high, ids, added)
        low.assign(words[0])
        high.assign(words[1])
        return
    # `scatter_add` wants an update for each id, and takes twice as long.
    tf.raw_ops.ResourceScatterAdd(
        resource=low.handle,
        indices=ids,
        updates=tf.constant(1) if added is None else added,
    )
    full = tf.gather(low, ids)
    carried = tf.gather(high, ids) + tf.bitwise.right_shift(full, COUNTER_BITS)
    full = tf.bitwise.bitwise_and(full, COUNTER_RADIX - 1)
    low.scatter_update(tf.IndexedSlices(full, ids))
    high.scatter_update(tf.IndexedSlices(carried, ids))


def _counted(
    low: Tensor, high: Tensor, ids: Tensor, added: Tensor | None
) -> tuple[Tensor, Tensor]:
    added = tf.ones_like(ids) if added is None else added
    low = low + tf.math.unsorted_segment_sum(added, ids, low.shape[0])
    carry = tf.bitwise.right_shift(low, COUNTER_BITS)
    return tf.bitwise.bitwise_and(low, COUNTER_RADIX - 1), high + carry
