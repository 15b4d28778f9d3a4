"""Trains on two logical devices and on one: the weights must be equal.

A program of its own, because logical devices are set before the first use.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_treegate.optimizers import StepAwareAdam
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


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    keras.utils.set_random_seed(0)
    one = trained(tf.distribute.get_strategy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        both = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    for actual, expected in zip(both, one, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    texts = [str(warning.message) for warning in caught]
    about = [text for text in texts if "is dense" in text]
    assert len(about) == 1, about
    assert "nodes_0, nodes_1 of the layer" in about[0]
    assert "replicas touch different rows" in about[0]


if __name__ == "__main__":
    main()
