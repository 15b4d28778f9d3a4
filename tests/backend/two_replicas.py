"""Trains on two logical devices and on one: the weights must be equal.

A program of its own, because logical devices are set before the first use.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_treegate import backend
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import (
    LossScaleOptimizer,
    StepAwareAdam,
    StepAwareSGD,
)
from tests.optimizers.routing import inputs_for, make_layer, make_model


def trained(strategy):
    random = np.random.default_rng(0)
    x = inputs_for(random, random.integers(0, 2, size=(24, 2)), 1)
    y = random.normal(size=(24, 2)).astype("float32")
    with strategy.scope():
        layer = make_layer(2, 2, 1, row_levels="all")
        model = make_model(layer, StepAwareAdam(0.05, weight_decay=0.1))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return [nodes.numpy() for nodes in layer.nodes]


def trained_with_a_scale(strategy):
    """Returns weights, scales and steps after gradients that overflow.

    The two halves of a batch differ in size, so that there is a scale at which
    the gradients of one replica are finite, and those of the other are not.
    """
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    y = x[:, :2] * np.where(np.arange(64) % 16 < 8, 1, 30)[:, None]
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layer = TreeGatedDense(2, depth=2, num_trees=2, seed=0)
        model = keras.Sequential([keras.Input((6,)), layer])
        model.compile(LossScaleOptimizer(StepAwareSGD(1e-3), 2.0**127), "mse")
    model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    assert type(model.optimizer) is LossScaleOptimizer
    counts = model.optimizer.dynamic_scale, model.optimizer.iterations
    return [nodes.numpy() for nodes in layer.nodes], [
        {float(x) for x in strategy.experimental_local_results(count.value)}
        for count in counts
    ]


def running_mean(strategy):
    """Returns the running mean of a gate after three steps."""
    x = np.random.default_rng(1).normal(size=(24, 6)).astype("float32") + 1
    gate = SignGate(threshold="running_mean", seed=0)
    with strategy.scope():
        layer = TreeGatedDense(2, depth=2, num_trees=2, gate=gate)
        model = keras.Sequential([keras.Input((6,)), layer])
        model.compile("sgd", "mse")
    model.fit(x, x[:, :2], batch_size=8, shuffle=False, verbose=0)
    assert float(ops.convert_to_numpy(gate.updates)) == 3
    return ops.convert_to_numpy(gate.moving_mean)


def means_of_replicas(strategy):
    """Yields the mean of 0 and 1 as replicas get it, eagerly and in a graph."""

    def mean():
        replica = tf.distribute.get_replica_context()
        number = tf.cast(replica.replica_id_in_sync_group, tf.float32)
        return backend.mean_of_processes(None, number)

    for run in (strategy.run, tf.function(strategy.run)):
        yield [float(x) for x in strategy.experimental_local_results(run(mean))]


def error_in_a_loop(strategy):
    """Returns the error of a mean over replicas inside of a loop."""
    variable = keras.Variable(0.0, name="some_mean")

    def loop():
        return tf.while_loop(
            lambda number, _: number < 2,
            lambda number, x: (
                number + 1,
                backend.mean_of_processes(variable, x),
            ),
            (tf.constant(0), tf.zeros(())),
        )

    try:
        tf.function(strategy.run)(loop)
    except ValueError as error:
        return str(error)


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    keras.utils.set_random_seed(0)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for means in means_of_replicas(mirrored):
        assert set(means) == {0.5}
    error = error_in_a_loop(mirrored)
    assert "`some_mean` must be a mean over all replicas" in error
    np.testing.assert_allclose(
        running_mean(mirrored),
        running_mean(tf.distribute.get_strategy()),
        rtol=1e-5,
        atol=1e-5,
    )
    one, (scales, steps) = trained_with_a_scale(tf.distribute.get_strategy())
    both, counts = trained_with_a_scale(mirrored)
    assert 0 < min(steps) < 12
    assert counts == [scales, steps]
    for actual, expected in zip(both, one, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    one = trained(tf.distribute.get_strategy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        both = trained(mirrored)
    for actual, expected in zip(both, one, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    texts = [str(warning.message) for warning in caught]
    about = [text for text in texts if "is dense" in text]
    assert len(about) == 1, about
    assert "nodes_0, nodes_1 of the layer" in about[0]
    assert "replicas touch different rows" in about[0]


if __name__ == "__main__":
    main()
