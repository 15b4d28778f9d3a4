"""Visits are counted exactly, in training only, however a model is trained."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.core.numerics import COUNTER_RADIX
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests.optimizers.routing import inputs_for, make_layer, make_model
from tests.random_layers import normal

TREES, DEPTH = 2, 3
BACKEND = keras.backend.backend()
WAYS = {
    "plain": {},
    "eager": {"run_eagerly": True},
    "compiled": {"jit_compile": BACKEND != "torch"},
    "several steps at a time": {"steps_per_execution": 3},
}
if BACKEND == "torch":  # Keras refuses it there
    del WAYS["several steps at a time"]


def counted(codes, leaves=2**DEPTH):
    """Counts leaf codes (B, G) with NumPy."""
    return np.stack([np.bincount(tree, minlength=leaves) for tree in codes.T])


def codes_and_inputs(examples=22, seed=0):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**DEPTH, size=(examples, TREES))
    return codes, inputs_for(random, codes, DEPTH)


@pytest.mark.parametrize("way", WAYS)
def test_fit_counts_what_numpy_counts(way):
    codes, x = codes_and_inputs()
    layer = make_layer(2, TREES, DEPTH)
    model = make_model(layer, StepAwareAdam(0.01), **WAYS[way])
    y = np.zeros((len(x), 2))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, validation_data=(x, y))
    assert layer.leaf_visits.dtype == np.int64
    np.testing.assert_array_equal(layer.leaf_visits, 2 * counted(codes))
    layer.reset_visits()
    assert layer.leaf_visits.shape == (TREES, 2**DEPTH)
    assert not layer.leaf_visits.any()


@pytest.mark.parametrize("before", [2**30 - 3, 2**31 - 3, 2**32 - 1, 2**45])
@pytest.mark.parametrize("examples", [5, 22])  # fewer than leaves, and more
def test_counts_stay_exact_where_32_bits_are_full(before, examples):
    codes, _ = codes_and_inputs(examples)
    codes[1] = codes[0]
    layer = make_layer(2, TREES, DEPTH)
    low, high = layer.visits.variables
    low.assign(ops.full(low.shape, before % 2**30, dtype="int32"))
    high.assign(ops.full(high.shape, before // 2**30, dtype="int32"))
    for _ in range(2):
        layer.visits.record(ops.cast(codes, "int32"), training=True)
    expected = before + 2 * counted(codes)
    np.testing.assert_array_equal(layer.leaf_visits, expected)
    reached = counted(codes).ravel() > 0
    assert np.all(low.numpy()[reached] < COUNTER_RADIX)


def test_time_steps_are_counted_one_by_one():
    codes, x = codes_and_inputs(12)
    layer = make_layer(2, TREES, DEPTH)
    layer(x.reshape(2, 6, -1), training=True)
    np.testing.assert_array_equal(layer.leaf_visits, counted(codes))


def test_a_tree_of_depth_0_has_one_leaf():
    layer = TreeGatedDense(2, depth=0, num_trees=2)
    layer(normal(5, 4), training=True)
    np.testing.assert_array_equal(layer.leaf_visits, [[5], [5]])


def test_two_uses_of_a_layer_add_up():
    layer = TreeGatedDense(4, depth=1, num_trees=2)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    model(normal(6, 4), training=True)
    np.testing.assert_array_equal(layer.leaf_visits.sum(axis=1), [12, 12])


def test_inference_and_a_frozen_layer_are_not_counted():
    _, x = codes_and_inputs()
    layer = make_layer(2, TREES, DEPTH)
    layer(x)
    layer.leaf_codes(x)
    layer.trainable = False
    layer(x, training=True)
    assert not layer.leaf_visits.any()


def test_counts_are_no_weights_that_an_optimizer_sees():
    layer = make_layer(2, TREES, DEPTH)
    model = make_model(layer, keras.optimizers.Adam())
    names = {variable.name for variable in layer.trainable_variables}
    assert not names & {"visits_low", "visits_high"}
    model.optimizer.build(model.trainable_variables)
    assert not [v for v in model.optimizer.variables if "visits" in v.path]


def test_a_stateless_call_counts_in_what_it_returns_only():
    codes, x = codes_and_inputs()
    layer = make_layer(2, TREES, DEPTH)
    given = [ops.copy(v.value) for v in layer.non_trainable_variables]
    _, returned = layer.stateless_call(
        [v.value for v in layer.trainable_variables],
        given,
        ops.convert_to_tensor(x),
        training=True,
    )
    names = [v.name for v in layer.non_trainable_variables]
    at = names.index("visits_low")
    assert not layer.leaf_visits.any()
    assert not ops.convert_to_numpy(given[at]).any()
    expected = counted(codes).ravel()
    np.testing.assert_array_equal(ops.convert_to_numpy(returned[at]), expected)


def test_a_layer_can_be_told_not_to_count():
    _, x = codes_and_inputs()
    layer = make_layer(2, TREES, DEPTH, count_visits=False)
    layer(x, training=True)
    assert not [v for v in layer.variables if "visits" in v.name]
    message = "`count_visits` must be `True`.*Received: count_visits=False"
    with pytest.raises(ValueError, match=message):
        _ = layer.leaf_visits
    with pytest.raises(ValueError, match=message):
        layer.reset_visits()
    again = TreeGatedDense.from_config(layer.get_config())
    assert again.count_visits is False


def test_visits_of_a_layer_that_is_not_built_are_an_error():
    with pytest.raises(ValueError, match="is not built"):
        _ = TreeGatedDense(2).leaf_visits


def build_model(count_visits=True):
    layer = TreeGatedDense(2, depth=2, seed=0, count_visits=count_visits)
    return keras.Sequential([keras.Input((4,)), layer])


def test_visits_are_saved_with_the_model(tmp_path):
    model = build_model()
    model.layers[0](normal(9, 4), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    visits = model.layers[0].leaf_visits
    assert visits.sum() == 4 * 9
    np.testing.assert_array_equal(loaded.layers[0].leaf_visits, visits)


@pytest.mark.parametrize("saved", [True, False])
def test_files_with_and_without_visits_load_into_either_layer(saved, tmp_path):
    file = tmp_path / "model.weights.h5"
    build_model(count_visits=saved).save_weights(file)
    other = build_model(count_visits=not saved)
    other.load_weights(file)
    if not saved:
        assert not other.layers[0].leaf_visits.any()


@pytest.mark.parametrize("before", [0, 2**30 - 3])
@pytest.mark.parametrize("examples", [1, 5, 22])
def test_what_a_mask_leaves_out_is_not_counted(before, examples):
    codes, _ = codes_and_inputs(examples)
    layer = make_layer(2, TREES, DEPTH)
    low, _ = layer.visits.variables
    low.assign(ops.full(low.shape, before, dtype="int32"))
    real = np.arange(examples) % 3 > 0
    layer.visits.record(ops.cast(codes, "int32"), training=True, mask=real)
    np.testing.assert_array_equal(
        layer.leaf_visits, before + counted(codes[real])
    )
