"""One level of nodes: reading it with its decay, and settling."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.layers import TreeGatedDense
from keras_treegate.tables import row_table
from tests import gradients

CLOCK = np.log([0.25, 1.0])  # the rows are worth a quarter since step 0
STAMPS = np.log([[1.0, 1.0], [0.5, 1.0], [0.25, 1.0], [1.0, 1.0]])
FACTORS = np.array([0.25, 0.5, 1.0, 0.25])[:, None, None]


@pytest.fixture(name="level")
def a_level_that_owes():
    """Returns a level of four rows (2, 3), of which one owes nothing."""
    layer = TreeGatedDense(3, depth=0, num_trees=4, use_bias=False)
    layer.build((None, 8))
    level = layer.tree_levels[0]
    level.nodes.assign(np.random.default_rng(0).normal(size=(4, 2, 3)))
    level.clock.assign(CLOCK)
    level.stamps.assign(STAMPS)
    level.layer = layer  # keeps the layer alive, and at hand
    return level


def numpy(x):
    return ops.convert_to_numpy(x)


def test_the_level_of_a_variable(level):
    assert row_table.of(level.nodes) is level
    assert row_table.of(level.clock) is None
    assert row_table.of(keras.Variable(np.zeros(3))) is None


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 3], [1, 2], [3]])
def test_rows_are_read_with_the_decay_they_owe(level, ids):
    expected = level.nodes.numpy() * FACTORS
    rows = level.read(
        None if ids is None else ops.convert_to_tensor(ids, dtype="int32")
    )
    expected = expected if ids is None else expected[ids]
    np.testing.assert_allclose(numpy(rows), expected, rtol=1e-6)


def test_reading_changes_nothing(level):
    before = [v.numpy() for v in (level.nodes, level.clock, level.stamps)]
    level.read(ops.convert_to_tensor([0, 2], dtype="int32"))
    level.read()
    for variable, value in zip(
        (level.nodes, level.clock, level.stamps), before, strict=True
    ):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("form", ["none", "all"])
def test_the_gradient_is_that_of_the_decayed_rows(level, form):
    # It is not multiplied by the factor: as if the decay had been written.
    layer = level.layer
    layer.row_levels = form
    x = np.eye(8, dtype="float32")
    dy = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")
    _, grads = gradients.of_layer(layer, dy, x)
    (gradient,) = gradients.of([level.nodes], layer, grads)
    np.testing.assert_allclose(gradient, dy.reshape(4, 2, 3), rtol=1e-6)


def test_settling_pays_the_decay_and_stops_the_clock(level):
    expected = level.nodes.numpy() * FACTORS
    idle = level.nodes.numpy()[2]
    before = numpy(level.read())
    level.settle()
    np.testing.assert_allclose(level.nodes.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(level.nodes.numpy()[2], idle)
    np.testing.assert_array_equal(level.clock.numpy(), np.zeros(2))
    np.testing.assert_array_equal(level.stamps.numpy(), np.zeros((4, 2)))
    # A reader sees no bit change.
    np.testing.assert_array_equal(numpy(level.read()), before)


def test_settling_twice_is_settling_once(level):
    level.settle()
    once = level.nodes.numpy()
    level.settle()
    np.testing.assert_array_equal(level.nodes.numpy(), once)


def test_a_clock_at_zero_has_nothing_to_settle(level):
    level.clock.assign(np.zeros(2))
    level.stamps.assign(np.zeros((4, 2)))
    before = level.nodes.numpy()
    level.settle()
    np.testing.assert_array_equal(level.nodes.numpy(), before)


def test_a_layer_settles_all_its_levels():
    layer = TreeGatedDense(2, depth=2, num_trees=2)
    layer.build((None, 4))
    for level in layer.tree_levels:
        level.nodes.assign(np.ones(level.nodes.shape))
        level.clock.assign(np.log([0.5, 1.0]))
    layer.settle()
    for level in layer.tree_levels:
        np.testing.assert_allclose(level.nodes.numpy(), 0.5, rtol=1e-6)
        np.testing.assert_array_equal(level.clock.numpy(), np.zeros(2))


def test_settling_a_layer_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="is not built"):
        TreeGatedDense(2).settle()


def test_decay_state_is_part_of_the_layer_and_of_its_files(tmp_path):
    def built():
        model = keras.Sequential([keras.Input((4,)), TreeGatedDense(2, 1)])
        return model, model.layers[0].tree_levels

    model, levels = built()
    for number, level in enumerate(levels):
        level.clock.assign([-0.1 - number, 1e-9])
        level.stamps.assign(np.full(level.stamps.shape, -0.05))
    model.save_weights(tmp_path / "model.weights.h5")
    model, loaded = built()
    model.load_weights(tmp_path / "model.weights.h5")
    for one, two in zip(levels, loaded, strict=True):
        np.testing.assert_array_equal(one.clock.numpy(), two.clock.numpy())
        np.testing.assert_array_equal(one.stamps.numpy(), two.stamps.numpy())
