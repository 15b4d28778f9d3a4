"""Trains on two devices and counts: `python -m tests.callbacks.two_devices`.

A program of its own, because devices are set before the first use.
"""

import keras
import numpy as np

from keras_treegate.callbacks import GateEntropy, PathUtilization
from tests.callbacks.models import (
    EXAMPLES,
    data,
    entropy_of,
    model_of,
    tree,
    visits_of,
)


def build():
    layer = tree("tree", depth=3)
    return layer, model_of(layer)


def two_devices():
    """Returns a layer and a model on two devices."""
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices)
        )
        return build()
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        return build()


def main():
    layer, model = two_devices()
    x, y = data()
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        verbose=0,
        callbacks=[GateEntropy(), PathUtilization(data=x)],
    )
    expected = visits_of(layer, x)
    assert expected.sum() == 2 * EXAMPLES
    np.testing.assert_array_equal(layer.leaf_visits, 2 * expected)
    for key, value in {
        "gate_entropy": entropy_of(expected),
        "val_path_utilization": np.mean(expected > 0),
    }.items():
        np.testing.assert_allclose(history.history[key], [value] * 2)
    layer.reset_visits()
    assert not layer.leaf_visits.any()


if __name__ == "__main__":
    main()
