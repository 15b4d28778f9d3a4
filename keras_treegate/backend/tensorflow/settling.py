"""Settlement under TensorFlow: eager, in a graph, and of replicas."""

from collections.abc import Callable

import tensorflow as tf

from keras_treegate.backend.common.settling import pay_in_parts
from keras_treegate.backend.tensorflow.in_place import native
from keras_treegate.backend.tensorflow.rows import (
    owed_decay,
    read_rows,
    write_rows,
)
from keras_treegate.core import decay
from keras_treegate.types import Tensor, Variable


def settle(table: Variable, clock: Variable, stamps: Variable) -> None:
    states = [native(variable) for variable in (table, clock, stamps)]
    if not all(isinstance(state, tf.Variable) for state in states):
        _pay(table, clock, stamps)  # in a `StatelessScope`
        return
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        _pay_if_owed(*states)
    elif tf.distribute.in_cross_replica_context():
        _settle_replicas(strategy, *states)
    else:
        replica = tf.distribute.get_replica_context()
        replica.merge_call(_settle_replicas, args=states)


def _settle_replicas(
    strategy: tf.distribute.Strategy,
    table: Tensor,
    clock: Tensor,
    stamps: Tensor,
) -> None:
    strategy.extended.update(
        table, _pay_if_owed, args=(clock, stamps), group=False
    )


def _pay_if_owed(table: Tensor, clock: Tensor, stamps: Tensor) -> None:
    is_owed = tf.reduce_any(clock != 0)
    if tf.executing_eagerly():
        if is_owed:
            _pay_eagerly(table, clock, stamps)
        return

    def pay() -> Tensor:
        _pay(table, clock, stamps)
        return tf.constant(True)

    tf.cond(is_owed, pay, lambda: tf.constant(False))


def _pay_eagerly(table: Tensor, clock: Tensor, stamps: Tensor) -> None:
    time, negative = decay.read_clock(read_rows(clock, None))
    if negative:
        _pay(table, clock, stamps)
    else:
        pay_in_parts(table, stamps, time, _read_part, write_rows)
        _clear(clock, stamps)


def _read_part(table: Tensor, start: int, end: int) -> Tensor:
    # A slice is read by a copy of the whole variable.
    return read_rows(table, tf.range(start, end))


def _pay(table: Tensor, clock: Tensor, stamps: Tensor) -> None:
    owed = owed_decay(clock, stamps, None)
    table.assign(decay.decayed(read_rows(table, None), owed))
    _clear(clock, stamps)


def _clear(clock: Tensor, stamps: Tensor) -> None:
    for state in (stamps, clock):
        state.assign(tf.zeros(state.shape))


def before_native_steps(variable: Variable, settle: Callable[[], None]) -> None:
    pass  # TensorFlow has no optimizers but Keras's
