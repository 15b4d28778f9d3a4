"""Gates that scale what they let through."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from keras import ops

from keras_treegate.credit import NoisyRectifier
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareSGD
from tests import gradients, oracle
from tests.jit_on_jax import jit_on_jax
from tests.random_layers import (
    all_levels,
    assert_close,
    cases,
    few,
    normal,
    random_inputs,
    random_layer,
    randomize,
)


def noisy_kernel(layer, activations):
    """Computes (B, P, Q) by the formula, of activations (B, G, D)."""
    trees, depth = activations.shape[1:]
    nodes = [level.astype("float64") for level in all_levels(layer)]
    inputs = layer.input_spec.axes[-1]
    codes = oracle.leaf_codes((activations > 0).astype(int))
    kernel = np.zeros((len(activations), inputs, layer.units))
    for example in range(len(activations)):
        for unit in range(inputs):
            tree, offset = oracle.place(unit, inputs, trees)
            scale = 1.0
            for level in range(depth + 1):
                if level:
                    h = activations[example, tree, level - 1]
                    scale *= max(0, h) if h > 0 else max(0, -h)
                code = codes[example, tree]
                row = oracle.node_row(tree, code, level, depth)
                kernel[example, unit] += scale * nodes[level][row, offset]
    return kernel


def noisy_output(layer, x, activations):
    kernel = noisy_kernel(layer, activations)
    return np.einsum("bp,bpq->bq", x, kernel) + layer.bias.numpy()


def fix_noise(layer, noise):
    layer.credit.noise = lambda shape: ops.convert_to_tensor(noise)


@settings(few, max_examples=8)
@given(cases())
def test_outputs_are_those_of_the_formula(case):
    x = random_inputs(case)
    layer = random_layer(case, x, credit=NoisyRectifier(stddev=0.5))
    rows = x.reshape(-1, case.inputs)
    activations = rows[:, layer.gate.units]
    noise = normal(*activations.shape, seed=3)
    fix_noise(layer, noise.reshape(*case.lead, *noise.shape[1:]))
    kernel, inference, training = jit_on_jax(
        lambda x: (
            layer.effective_kernel(x),
            layer(x, training=False),
            layer(x, training=True),
        )
    )(x)
    # No noise at inference.
    expected = noisy_kernel(layer, activations)
    assert_close(kernel, expected.reshape(*case.lead, *expected.shape[1:]))
    expected = noisy_output(layer, rows, activations)
    assert_close(inference, expected.reshape(*case.lead, -1))
    expected = noisy_output(layer, rows, activations + 0.5 * noise)
    assert_close(training, expected.reshape(*case.lead, -1))


def largest_step(credit, points):
    """Returns the largest step of the outputs in a walk of the gates."""
    layer = TreeGatedDense(2, depth=3, num_trees=2, seed=0, credit=credit)
    x = np.tile(normal(1, 4, seed=1), (points, 1))
    walk = np.linspace(-3, 3, points)[:, None]
    source = (normal(1, 6, seed=2) + walk).astype("float32")
    layer.build(x.shape, source.shape)
    randomize(layer)
    codes, y = jit_on_jax(
        lambda x, source: (
            layer.leaf_codes(x, gate_inputs=source),
            layer(x, gate_inputs=source),
        )
    )(x, source)
    codes = ops.convert_to_numpy(codes)
    assert (np.diff(codes, axis=0) != 0).any(axis=1).sum() >= 4
    return np.abs(np.diff(ops.convert_to_numpy(y), axis=0)).max()


def test_outputs_are_continuous_where_bits_flip():
    # A walk with ten times as many steps has steps a tenth as large, where
    # there is no jump.
    noisy, finer = (
        largest_step(NoisyRectifier(), points) for points in (201, 2001)
    )
    assert finer < 0.15 * noisy
    jump, same_jump = (
        largest_step("straight", points) for points in (201, 2001)
    )
    assert same_jump > 0.9 * jump > 1.0


@pytest.mark.parametrize("row_levels", ["none", "all"])
def test_gradients_are_finite_differences(row_levels):
    layer = TreeGatedDense(2, 3, num_trees=2, seed=0, credit=NoisyRectifier())
    x, source, dy = normal(5, 4), normal(5, 6, seed=1), normal(5, 2, seed=2)
    layer.build(x.shape, source.shape)
    layer.row_levels = row_levels
    randomize(layer)
    noise = normal(5, 2, 3, seed=3)
    fix_noise(layer, noise)
    inputs = [x.astype("float64"), source.astype("float64")]
    arrays = {"x": inputs[0], "source": inputs[1]}

    def loss():
        a = arrays["source"][:, layer.gate.units] + noise
        return np.sum(noisy_output(layer, arrays["x"], a) * dy)

    (dx, dsource), _ = gradients.of_layer(layer, dy, x, source, training=True)
    for name, found in (("x", dx), ("source", dsource)):
        expected = oracle.finite_differences(loss, arrays[name])
        assert np.abs(expected).max() > 0.1
        assert_close(found, expected, 1e-4)


def trained(row_levels):
    layer = TreeGatedDense(
        3, 6, num_trees=2, seed=0, credit=NoisyRectifier(seed=1)
    )
    model = keras.Sequential([keras.Input((8,), batch_size=4), layer])
    layer.row_levels = row_levels
    randomize(layer)
    model.compile(StepAwareSGD(0.05, weight_decay=0.1), "mse")
    before = layer.nodes[6].numpy()
    x, y = normal(12, 8), normal(12, 3)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return layer, before, model.predict(x, verbose=0)


def test_rows_and_dense_train_alike_with_decay():
    layer, before, y = trained("all")
    other, _, expected = trained("none")
    assert_close(y, expected, 1e-4)
    for level, dense in zip(layer.nodes, other.nodes, strict=True):
        assert_close(level.numpy(), dense.numpy(), 1e-4)
    # Three steps of four examples reach few of the 64 leaves of a tree; the
    # others have decayed, and nothing else.
    idle = np.isclose(
        layer.nodes[6].numpy(), before * (1 - 0.005) ** 3, rtol=1e-5
    ).all(axis=(1, 2))
    assert 128 - 24 <= idle.sum() < 128


def test_noise_is_reproducible_and_goes_on_after_loading(tmp_path):
    x, y = normal(8, 8), normal(8, 3)

    def trained(epochs):
        layer = TreeGatedDense(
            3,
            depth=2,
            seed=0,
            credit=NoisyRectifier(seed=1),
            kernel_initializer=keras.initializers.GlorotUniform(2),
            node_initializer=keras.initializers.RandomNormal(seed=3),
        )
        model = keras.Sequential([keras.Input((8,)), layer])
        model.compile("sgd", "mse")
        model.fit(x, y, epochs=epochs, shuffle=False, verbose=0)
        return model

    whole, half = trained(2), trained(1)
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert loaded.layers[0].credit.stddev == 1.0
    loaded.fit(x, y, shuffle=False, verbose=0)
    assert_close(
        loaded.predict(x, verbose=0), whole.predict(x, verbose=0), 1e-5
    )


def test_a_layer_cannot_be_folded():
    layer = TreeGatedDense(3, depth=2, credit=NoisyRectifier(name="noisy"))
    layer.build((None, 4))
    with pytest.raises(
        ValueError, match="`credit` must be foldable.*NoisyRectifier.*or"
    ):
        layer.leaf_table()
    assert layer.multiply_adds == (36, 36)


def test_mixed_precision():
    layer = TreeGatedDense(
        2,
        3,
        num_trees=2,
        seed=0,
        credit="noisy_rectifier",
        dtype="mixed_float16",
    )
    x = normal(5, 6)
    layer.build(x.shape)
    randomize(layer)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    expected = noisy_output(layer, x, x[:, layer.gate.units])
    assert_close(ops.cast(y, "float32"), expected, 0.03)


def test_running_mean_thresholds_are_subtracted():
    gate = SignGate(threshold="running_mean", seed=0)
    layer = TreeGatedDense(
        2, 2, num_trees=2, gate=gate, credit=NoisyRectifier()
    )
    x = normal(5, 4) + 3
    layer.build(x.shape)
    randomize(layer)
    gate.moving_mean.assign(normal(2, 2, seed=4) + 3)
    activations = x[:, gate.units] - gate.moving_mean.numpy()
    assert_close(layer(x), noisy_output(layer, x, activations))


@pytest.mark.parametrize("stddev", [-0.1, float("inf"), None])
def test_a_stddev_that_is_none(stddev):
    with pytest.raises(ValueError, match="`stddev` must be a finite number"):
        NoisyRectifier(stddev)
