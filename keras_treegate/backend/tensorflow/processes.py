"""Means over the replicas of a `tf.distribute` strategy."""

import tensorflow as tf

from keras_treegate.types import Tensor, Variable


def mean_of_processes(variable: Variable, tensor: Tensor) -> Tensor:
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensor
    return replica.merge_call(_mean_of_replicas, args=(tensor,))


def _mean_of_replicas(
    strategy: tf.distribute.Strategy, tensor: Tensor
) -> Tensor:
    return strategy.reduce(tf.distribute.ReduceOp.MEAN, tensor, axis=None)
