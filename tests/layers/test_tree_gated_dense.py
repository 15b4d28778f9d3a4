"""The layer computes what the formulas say, whatever its shape."""

import keras
import numpy as np
import pytest
from hypothesis import given
from keras import ops

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests import oracle
from tests.jit_on_jax import jit_on_jax
from tests.random_layers import (
    Case,
    Expected,
    all_levels,
    assert_close,
    cases,
    few,
    normal,
    parameters,
    random_inputs,
    random_layer,
    randomize,
)


@few
@given(cases())
def test_codes_kernel_and_output_equal_the_oracle(case):
    x = random_inputs(case)
    layer = random_layer(case, x)
    expected = Expected(layer, x)
    codes, kernel, y = jit_on_jax(
        lambda x: (layer.leaf_codes(x), layer.effective_kernel(x), layer(x))
    )(x)
    codes = ops.convert_to_numpy(codes)
    assert np.issubdtype(codes.dtype, np.integer)
    np.testing.assert_array_equal(codes, expected.codes)
    assert_close(kernel, expected.kernel)
    assert_close(y, expected.output)


@few
@given(cases())
def test_variables_and_leaf_table_equal_the_oracle(case):
    layer = random_layer(case, random_inputs(case))
    shapes = oracle.node_shapes(case.inputs, case.units, case.depth, case.trees)
    shapes = [shapes[level] for level in layer.levels]
    assert [tuple(level.shape) for level in layer.nodes] == shapes
    assert tuple(layer.bias.shape) == (case.units,)
    assert np.array(layer.gate.units).shape == (case.trees, case.depth)
    table = oracle.leaf_table(all_levels(layer))
    assert_close(jit_on_jax(layer.leaf_table)(), table)


@pytest.mark.parametrize("num_trees", [None, 3])
def test_batches_smaller_and_larger_than_a_level_agree(num_trees):
    case = Case((40,), 6, 3, 5, num_trees, seed=1)
    x = random_inputs(case)
    layer = random_layer(case, x)
    expected = Expected(layer, x).output
    for batch in (1, 2, 7, 33, 40):
        y = jit_on_jax(lambda x: layer(x))(x[:batch])
        assert_close(y, expected[:batch])


def test_an_empty_batch_gives_an_empty_output():
    layer = random_layer(Case((6,), 5, 3, 3, 2, seed=0), np.ones((6, 5)))
    y = layer(np.zeros((0, 5), "float32"))
    assert tuple(y.shape) == (0, 3)


def test_auto_means_at_most_sixty_four_trees():
    layer = TreeGatedDense(1, depth=1)
    layer.build((None, 70))
    assert tuple(layer.nodes[1].shape) == (128, 2, 1)


def test_none_means_one_tree_for_every_input():
    layer = TreeGatedDense(2, depth=1, num_trees=None)
    layer.build((None, 70))
    assert tuple(layer.nodes[1].shape) == (140, 1, 2)


@pytest.mark.parametrize("num_trees", [None, 1, 3, "auto"])
@pytest.mark.parametrize("depth", [0, 3])
def test_a_fresh_layer_is_the_dense_layer_of_its_roots(depth, num_trees):
    def initializer():
        return keras.initializers.GlorotUniform(seed=7)

    x = normal(9, 7)
    dense = keras.layers.Dense(4, kernel_initializer=initializer())
    tree = TreeGatedDense(
        4, depth, num_trees=num_trees, kernel_initializer=initializer()
    )
    tree.build(x.shape)
    assert_close(
        jit_on_jax(lambda x: tree(x))(x), ops.convert_to_numpy(dense(x)), 1e-6
    )
    roots = tree.nodes[0].numpy().reshape(-1, 4)
    np.testing.assert_array_equal(roots[:7], dense.kernel.numpy())
    np.testing.assert_array_equal(roots[7:], 0)
    for level in tree.nodes[1:]:
        np.testing.assert_array_equal(level.numpy(), 0)


def test_the_default_kernel_has_the_spread_of_glorot_uniform():
    layer = TreeGatedDense(50, depth=1, num_trees=10, seed=0)
    layer.build((None, 100))
    roots = layer.nodes[0].numpy()
    limit = np.float32(np.sqrt(6 / (100 + 50)))  # may be drawn itself
    assert np.abs(roots).max() <= limit
    assert np.abs(roots).max() > 0.99 * limit


def test_the_node_initializer_draws_the_levels_below_the_roots():
    layer = TreeGatedDense(
        2, depth=2, num_trees=2, node_initializer=keras.initializers.Constant(3)
    )
    layer.build((None, 4))
    assert not np.any(layer.nodes[0].numpy() == 3)
    for level in layer.nodes[1:]:
        np.testing.assert_array_equal(level.numpy(), 3)


def test_padding_never_reaches_the_output():
    layer = TreeGatedDense(2, depth=1, num_trees=3)
    layer.build((None, 7))
    randomize(layer)
    x = np.ones((2, 7), "float32")
    before = ops.convert_to_numpy(layer(x))
    for level in layer.nodes:
        value = level.numpy()
        value[-1, 1:] = 1e6  # the last tree owns one input of its three
        level.assign(value)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), before)


def test_activation_is_applied_after_the_bias():
    layer = TreeGatedDense(3, depth=3, num_trees=2, activation="relu")
    x = normal(6, 5)
    layer.build(x.shape)
    randomize(layer)
    expected = np.maximum(Expected(layer, x).output, 0)
    assert (expected == 0).any()
    assert (expected > 0).any()
    assert_close(layer(x), expected)


def test_without_a_bias_there_is_none():
    layer = TreeGatedDense(3, depth=3, num_trees=2, use_bias=False)
    x = normal(6, 5)
    layer.build(x.shape)
    randomize(layer)
    assert layer.bias is None
    assert not [v for v in layer.variables if "bias" in v.path]
    assert_close(layer(x), Expected(layer, x).output)


def test_the_bias_has_its_initializer_regularizer_and_constraint():
    layer = TreeGatedDense(
        3,
        depth=1,
        bias_initializer=keras.initializers.Constant(-2.0),
        bias_regularizer=keras.regularizers.L2(0.5),
        bias_constraint="non_neg",
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    np.testing.assert_array_equal(layer.bias.numpy(), -2.0)
    (penalty,) = model.losses
    assert_close(penalty, 0.5 * 3 * 2.0**2)
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.train_on_batch(np.ones((2, 4)), np.zeros((2, 3)))
    np.testing.assert_array_equal(layer.bias.numpy(), 0.0)


def test_gate_inputs_route_and_are_not_multiplied():
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 3, 5)).astype("float32")
    source = random.normal(size=(4, 3, 9)).astype("float32")
    units = random.permuted(np.tile(np.arange(9), (3, 1)), axis=1)[:, :4]
    assert units.max() >= 5  # wider than the inputs
    layer = TreeGatedDense(2, 4, num_trees=3, gate=SignGate(units=units))
    layer.build(x.shape, source.shape)
    randomize(layer)
    expected = Expected(layer, x, source)
    codes, kernel, y = jit_on_jax(
        lambda x, source: (
            layer.leaf_codes(x, gate_inputs=source),
            layer.effective_kernel(x, gate_inputs=source),
            layer(x, gate_inputs=source),
        )
    )(x, source)
    assert_close(codes, expected.codes, 0)
    assert_close(kernel, expected.kernel)
    assert_close(y, expected.output)


def test_capacity_counts_the_stored_parameters():
    layer = TreeGatedDense(4, depth=2, num_trees=5)
    layer.build((None, 10))
    assert isinstance(layer.capacity, int)
    assert layer.capacity == 7 * 10 * 4 + 4
    assert layer.capacity == sum(np.prod(v.shape) for v in parameters(layer))


def test_multiply_adds_of_the_tree_and_of_the_folded_table():
    layer = TreeGatedDense(4, depth=2, num_trees=5)
    layer.build((None, 10))
    # P * Q multiply-adds, and D * P * Q additions to sum the path.
    assert layer.multiply_adds.folded == 10 * 4
    assert layer.multiply_adds.tree == 10 * 4 + 2 * 10 * 4
