"""Dtype policies: the product is rounded, the gates never are."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests import gradients
from tests.jit_on_jax import jit_on_jax
from tests.random_layers import (
    Expected,
    assert_close,
    normal,
    parameters,
    randomize,
)

# The resolution of each policy's compute dtype, for sums of a few terms.
TOLERANCES = {"float32": 2e-5, "mixed_bfloat16": 1e-1, "mixed_float16": 2e-2}


def values_that_rounding_would_route_elsewhere():
    """Makes inputs above 0 that are 0 in float16, and pairs of close ones."""
    x = np.abs(normal(6, 5))
    x[:3] *= 1e-20
    x[3:] = 1 + x[3:] * 1e-4
    return x


@pytest.mark.parametrize("policy", TOLERANCES)
def test_output_equals_the_oracle_to_the_compute_dtype(policy):
    layer = TreeGatedDense(3, depth=3, num_trees=2, dtype=policy)
    x = normal(6, 5)
    layer.build(x.shape)
    randomize(layer)
    y = layer(x)
    compute = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(y.dtype) == compute
    assert {v.dtype for v in parameters(layer)} == {"float32"}
    y = ops.cast(y, "float32")
    assert_close(y, Expected(layer, x).output, TOLERANCES[policy])


@pytest.mark.parametrize("policy", TOLERANCES)
def test_gradients_equal_the_oracle_to_the_compute_dtype(policy):
    layer = TreeGatedDense(3, depth=3, num_trees=2, dtype=policy)
    x, dy = normal(6, 5), normal(6, 3, seed=1)
    layer.build(x.shape)
    randomize(layer)
    dx, dnodes, dbias = Expected(layer, x).gradients(dy)
    (got_dx,), trainable = gradients.of_layer(layer, dy, x)
    assert got_dx.dtype == "float32"
    assert_close(got_dx, dx, TOLERANCES[policy])
    got_dparameters = gradients.of(parameters(layer), layer, trainable)
    for gradient, expected in zip(
        got_dparameters, [*dnodes, dbias], strict=True
    ):
        assert gradient.dtype == "float32"
        assert_close(gradient, expected, TOLERANCES[policy])


@pytest.mark.parametrize("threshold", ["zero", "running_mean"])
@pytest.mark.parametrize("policy", TOLERANCES)
def test_bits_are_read_before_the_cast_to_the_compute_dtype(policy, threshold):
    x = values_that_rounding_would_route_elsewhere()
    if threshold == "zero":
        x *= np.sign(normal(*x.shape))
    gate = SignGate(threshold=threshold, seed=3)
    layer = TreeGatedDense(3, depth=3, num_trees=2, gate=gate, dtype=policy)
    layer.build(x.shape)
    randomize(layer)
    means = None
    if threshold == "running_mean":
        means = normal(2, 3) * 1e-4 + 1
        gate.moving_mean.assign(means)
        means = gate.moving_mean.numpy()
    expected = Expected(layer, x, threshold=means)
    rounded = Expected(
        layer, x.astype("float16").astype("float32"), threshold=means
    )
    assert np.any(expected.codes != rounded.codes)
    codes = ops.convert_to_numpy(layer.leaf_codes(x))
    np.testing.assert_array_equal(codes, expected.codes)
    y = ops.cast(layer(x), "float32")
    assert_close(y, expected.output, TOLERANCES[policy])


def test_gate_inputs_are_not_cast_either():
    x, source = normal(6, 5), values_that_rounding_would_route_elsewhere()
    source *= np.sign(normal(*source.shape))
    layer = TreeGatedDense(3, depth=3, num_trees=2, dtype="mixed_float16")
    layer.build(x.shape, source.shape)
    randomize(layer)
    y = ops.cast(layer(x, gate_inputs=source), "float32")
    assert_close(y, Expected(layer, x, source).output, 2e-2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_under_fit(policy):
    x = normal(128, 3)
    y = np.where(x[:, :1] > 0, x[:, 1:2], -x[:, 1:2])
    model = keras.Sequential(
        [
            keras.Input((3,)),
            TreeGatedDense(1, 1, 1, gate=SignGate(units=[[0]]), dtype=policy),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(x, y, batch_size=32, epochs=15, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 2e-2 < np.mean(y**2)


def check_float64():
    """Holds a float64 layer against the oracle to float64's own precision."""
    layer = TreeGatedDense(3, depth=3, num_trees=2, dtype="float64")
    random = np.random.default_rng(0)
    x, dy = random.normal(size=(7, 6)), random.normal(size=(7, 3))
    x[0], x[1] = 1e-30, 1e-300  # the latter is 0 in float32, and for a gate
    layer.build(x.shape)
    randomize(layer)
    assert {v.dtype for v in parameters(layer)} == {"float64"}
    expected = Expected(layer, x)
    np.testing.assert_array_equal(expected.codes[:2], [[7, 7], [0, 0]])
    codes, kernel, table, y = jit_on_jax(
        lambda x: (
            layer.leaf_codes(x),
            layer.effective_kernel(x),
            layer.leaf_table(),
            layer(x),
        )
    )(x)
    assert_close(codes, expected.codes, 0)
    assert_close(kernel, expected.kernel, 1e-12)
    assert_close(table, expected.leaf_table, 1e-12)
    assert_close(y, expected.output, 1e-12)
    dx, dnodes, dbias = expected.gradients(dy)
    (got_dx,), trainable = gradients.of_layer(layer, dy, x)
    assert_close(got_dx, dx, 1e-12)
    got_dparameters = gradients.of(parameters(layer), layer, trainable)
    for gradient, slope in zip(got_dparameters, [*dnodes, dbias], strict=True):
        assert_close(gradient, slope, 1e-12)
    gate = SignGate(units=[[0, 1]], threshold="running_mean")
    source = np.array([[1e-300, 1 + 1e-12]])
    gate(source)
    gate.moving_mean.assign([[0.0, 1.0]])
    np.testing.assert_array_equal(ops.convert_to_numpy(gate(source)), [[1]])


def test_float64_equals_the_oracle():
    if keras.backend.backend() != "jax":
        check_float64()
        return
    code = (
        "from tests.layers.test_tree_gated_dense_dtypes import check_float64;"
        "check_float64(); print('float64 holds')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("float64 holds\n"), done.stderr
