"""Training the layer with a stock optimizer, however the model is compiled."""

import gc

import keras
import numpy as np
import pytest

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests import oracle
from tests.random_layers import Expected, assert_close, normal, randomize


def assert_one_step_is_the_oracles(
    model, layer, feed, x, target, threshold=None
):
    """Trains on `feed`, for which the layer sees `x` and should say `target`.

    The loss is the mean squared error of the layer's outputs; the oracle
    takes the same step of gradient descent.
    """
    expected = Expected(layer, x, threshold=threshold)
    stored = [expected.nodes[level] for level in layer.levels]
    dy = 2 * (expected.output - target) / target.size
    _, dnodes, dbias = expected.gradients(dy)
    model.train_on_batch(feed, target)
    rate = float(model.optimizer.learning_rate)
    assert_close(layer.bias, expected.bias - rate * dbias)
    for level, before, slope in zip(layer.nodes, stored, dnodes, strict=True):
        assert_close(level, before - rate * slope)


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("batch", [6, 40])
@pytest.mark.parametrize("levels", ["all", "ends", (0, 1, 3)])
def test_one_step_of_sgd_is_the_oracles(levels, run_eagerly, batch):
    layer = TreeGatedDense(3, depth=3, num_trees=2, levels=levels)
    model = keras.Sequential([keras.Input((5,)), layer])
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=run_eagerly)
    x, target = normal(batch, 5), normal(batch, 3, seed=1)
    assert_one_step_is_the_oracles(model, layer, x, x, target)


def test_steps_compiled_with_jit_are_the_oracles():
    gate = SignGate(threshold="running_mean", momentum=0.5)
    layer = TreeGatedDense(2, depth=2, num_trees=2, gate=gate)
    model = keras.Sequential([keras.Input((3,)), layer])
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=True)
    moving = oracle.MovingMean(gate.units, momentum=0.5)
    for step in range(2):
        x, target = normal(5, 3, seed=step), normal(5, 2, seed=step + 2)
        threshold = moving.update(x)
        assert_one_step_is_the_oracles(model, layer, x, x, target, threshold)
        assert_close(gate.moving_mean, moving.mean)


def test_one_step_of_sgd_with_unknown_time_is_the_oracles():
    layer = TreeGatedDense(3, depth=4, num_trees=2)
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, layer(inputs))
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    for time in (1, 20):
        x, target = normal(2, time, 6), normal(2, time, 3, seed=1)
        assert_one_step_is_the_oracles(model, layer, x, x, target)


@pytest.mark.parametrize("levels", ["all", (0, 3, 9, 10)])
def test_one_step_of_sgd_on_a_deep_tree_of_unknown_batch_is_the_oracles(levels):
    layer = TreeGatedDense(2, depth=10, num_trees=1, levels=levels)
    inputs = keras.Input((None, 11))
    model = keras.Model(inputs, layer(inputs))
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    # Fewer examples than any level has rows, and more than most have.
    for batch, time in [(1, 3), (2, 300)]:
        x, target = normal(batch, time, 11), normal(batch, time, 2, seed=1)
        assert_one_step_is_the_oracles(model, layer, x, x, target)


def test_one_step_of_sgd_with_two_uses_is_the_oracles():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    first, second = keras.Input((5,)), keras.Input((5,))
    outputs = keras.layers.Concatenate(axis=0)([layer(first), layer(second)])
    model = keras.Model([first, second], outputs)
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x, target = normal(6, 5), normal(6, 3, seed=1)
    feed = [x[:3], x[3:]]
    assert_one_step_is_the_oracles(model, layer, feed, x, target)


def test_one_step_of_sgd_in_time_distributed_is_the_oracles():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    model = keras.Sequential(
        [keras.Input((3, 5)), keras.layers.TimeDistributed(layer)]
    )
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x, target = normal(2, 3, 5), normal(2, 3, 3, seed=1)
    assert_one_step_is_the_oracles(model, layer, x, x, target)


def test_rematerialization_changes_nothing():
    with keras.RematScope(mode="full"):
        layer = TreeGatedDense(3, depth=3, num_trees=2)
    model = keras.Sequential([keras.Input((5,)), layer])
    randomize(layer)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x, target = normal(6, 5), normal(6, 3, seed=1)
    assert_one_step_is_the_oracles(model, layer, x, x, target)


def test_fit_learns_a_function_that_routing_makes_easy():
    # Whose sign counts depends on the first input: no linear map can do it.
    x = normal(256, 3)
    y = np.where(x[:, :1] > 0, x[:, 1:2], -x[:, 1:2])
    gate = SignGate(units=[[0]])
    model = keras.Sequential([TreeGatedDense(1, 1, num_trees=1, gate=gate)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(x, y, batch_size=60, epochs=12, verbose=0)  # a last batch of 16
    assert model.evaluate(x, y, verbose=0) < 1e-2 < np.mean(y**2)


def test_a_frozen_layer_stays_as_it_is():
    layer = TreeGatedDense(4, depth=2)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    layer.trainable = False
    before = layer.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(normal(8, 4), normal(8, 1), verbose=0)
    for value, expected in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("depth", [2, 9])
@pytest.mark.parametrize("threshold", ["zero", "running_mean"])
def test_a_model_trains_after_one_of_its_sizes_is_gone(threshold, depth):
    # Compiled functions serve all models of a size, and need none of them.
    x, y = normal(16, 12), normal(16, 3, seed=1)
    for _ in range(2):
        gate = SignGate(threshold=threshold, seed=0)
        layer = TreeGatedDense(3, depth=depth, gate=gate, seed=0)
        model = keras.Sequential([layer])  # built by `fit`
        model.compile(StepAwareAdam(0.01), "mse")
        model.fit(x, y, batch_size=8, verbose=0)
        assert np.all(np.isfinite(model.predict(x, verbose=0)))
        del gate, layer, model
        keras.utils.clear_session()
        gc.collect()
