"""Means over the replicas of a `tf.distribute` strategy."""

import tensorflow as tf

from keras_treegate.types import Tensor, Variable


def mean_of_processes(variable: Variable, tensor: Tensor) -> Tensor:
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensor
    try:
        return replica.merge_call(_mean_of_replicas, args=(tensor,))
    except RuntimeError as error:
        raise ValueError(
            f"`{variable.name}` must be a mean over all replicas, which cannot "
            "exchange it inside of a loop or an inner `tf.function`, as the "
            "cell of a keras.layers.RNN is. Received: a call in training from "
            "there. Make the RNN with `unroll=True`, or keep the mean as it "
            "is, e.g. with `gate.trainable = False`."
        ) from error


def _mean_of_replicas(
    strategy: tf.distribute.Strategy, tensor: Tensor
) -> Tensor:
    return strategy.reduce(tf.distribute.ReduceOp.MEAN, tensor, axis=None)
