"""Gradients: by formula, by finite differences, and where none may flow."""

import keras
import numpy as np
import pytest
from hypothesis import given
from keras import ops

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests import gradients, oracle
from tests.jit_on_jax import jit_on_jax
from tests.random_layers import (
    Case,
    Expected,
    assert_close,
    cases,
    few,
    parameters,
    random_inputs,
    random_layer,
    randomize,
)

TOLERANCE = 5e-5


def assert_gradients(layer, expected, dinputs, trainable):
    """Compares with `dx`, `dnodes` and `dbias` of the oracle."""
    dx, dnodes, dbias = expected
    assert_close(dinputs, dx, TOLERANCE)
    got = gradients.of(parameters(layer), layer, trainable)
    for gradient, slope in zip(got, [*dnodes, dbias], strict=True):
        assert_close(gradient, slope, TOLERANCE)


@few
@given(cases())
def test_gradients_equal_the_oracle(case):
    x = random_inputs(case)
    layer = random_layer(case, x)
    random = np.random.default_rng(case.seed + 2)
    dy = random.normal(size=(*case.lead, case.units)).astype("float32")
    expected = Expected(layer, x).gradients(dy)
    (dx,), trainable = gradients.of_layer(layer, dy, x)
    assert_gradients(layer, expected, dx, trainable)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_gradients_of_batches_smaller_and_larger_than_a_level(batch):
    case = Case((batch,), 6, 2, 5, 4, seed=batch)
    x = random_inputs(case)
    layer = random_layer(case, x)
    dy = np.random.default_rng(0).normal(size=(batch, 2)).astype("float32")
    expected = Expected(layer, x).gradients(dy)
    (dx,), trainable = gradients.of_layer(layer, dy, x, training=True)
    assert_gradients(layer, expected, dx, trainable)


@pytest.mark.parametrize("num_trees", [None, 2])
def test_gradients_equal_finite_differences(num_trees):
    case = Case((3,), 3, 2, 2, num_trees, seed=5)
    x = random_inputs(case)
    x[np.abs(x) < 0.1] = 0.5  # no input near a sign change
    layer = random_layer(case, x, activation="softplus")
    dy = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    (dx,), trainable = gradients.of_layer(layer, dy, x)
    values = [v.numpy().copy() for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]
    call = jit_on_jax(lambda values, x: layer.stateless_call(values, others, x))

    def loss():
        tensors = [ops.convert_to_tensor(value) for value in [x, *values]]
        y, _ = call(tensors[1:], tensors[0])
        return float(np.sum(ops.convert_to_numpy(y) * dy))

    arrays = [x, *gradients.of(parameters(layer), layer, values)]
    slopes = [dx, *gradients.of(parameters(layer), layer, trainable)]
    for array, slope in zip(arrays, slopes, strict=True):
        differences = oracle.finite_differences(loss, array, step=1e-2)
        assert_close(differences, slope, 2e-3)


@pytest.mark.parametrize("threshold", ["zero", "running_mean"])
def test_no_gradient_reaches_the_gate_source(threshold):
    random = np.random.default_rng(0)
    x = random.normal(size=(6, 5)).astype("float32")
    source = random.normal(size=(6, 7)).astype("float32")
    layer = TreeGatedDense(3, 3, 2, gate=SignGate(threshold=threshold))
    layer.build(x.shape, source.shape)
    randomize(layer)
    dy = random.normal(size=(6, 3)).astype("float32")
    expected, _, _ = Expected(layer, x, source).gradients(dy)
    (dx, dsource), _ = gradients.of_layer(layer, dy, x, source)
    assert_close(dx, expected, TOLERANCE)
    np.testing.assert_array_equal(dsource, 0)


def test_two_calls_with_shared_weights_add_their_gradients():
    case = Case((6,), 5, 3, 3, 2, seed=3)
    one, two = random_inputs(case), random_inputs(case._replace(seed=4))
    layer = random_layer(case, one)
    first, second = keras.Input((5,)), keras.Input((5,))
    model = keras.Model([first, second], layer(first) + layer(second))
    dy = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")

    class Call:
        trainable_variables = layer.trainable_variables
        non_trainable_variables = layer.non_trainable_variables

        def __call__(self, one, two):
            return model([one, two])

        def stateless_call(self, trainable, non_trainable, one, two):
            return model.stateless_call(trainable, non_trainable, [one, two])

    dinputs, trainable = gradients.of_layer(Call(), dy, one, two)
    both = np.concatenate([one, two])
    expected = Expected(layer, both).gradients(np.concatenate([dy, dy]))
    assert_gradients(layer, expected, np.concatenate(dinputs), trainable)
