"""Deeper trees: the same outputs, and the optimizer goes on."""

import functools
import re

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import LossScaleOptimizer, StepAwareAdam
from tests.transforms import models
from tests.transforms.models import normal

make = functools.partial(TreeGatedDense, depth=2, num_trees=3, seed=1)


def one_layer(gate=None, **kwargs):
    layer = make(4, gate=gate, name="mine")
    model = keras.Sequential(
        [keras.Input((8,)), layer, keras.layers.Dense(4)], **kwargs
    )
    models.randomize(model)
    return model, layer


@pytest.mark.parametrize("structure", models.STRUCTURES)
def test_a_model_of_any_structure_keeps_its_outputs(structure):
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    before = models.values(model)
    new = keras_treegate.grow(model, depth=4)
    models.assert_same_outputs(model, new, x)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, new)


def test_a_grown_model_is_saved_and_loaded(tmp_path):
    model, x = models.nested(make)
    models.randomize(model)
    new = keras_treegate.grow(model, depth=4)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(model, loaded, x)


def test_gate_units_are_appended_without_replacement():
    model, layer = one_layer(gate=SignGate(units=[[0, 1], [5, 4], [2, 7]]))
    (new, _) = keras_treegate.grow(model, depth=6, seed=3).layers
    units = new.gate.units
    assert units.shape == (3, 6)
    np.testing.assert_array_equal(units[:, :2], layer.gate.units)
    assert all(len(set(tree)) == 6 for tree in units.tolist())
    again = keras_treegate.grow(model, depth=6, seed=3).layers[0]
    np.testing.assert_array_equal(again.gate.units, units)
    x = normal(9, 8)
    codes = np.array(layer.leaf_codes(x))
    np.testing.assert_array_equal(np.array(new.leaf_codes(x)) >> 4, codes)


def test_new_thresholds_are_those_of_the_same_unit_or_average():
    gate = SignGate(units=[[0, 1], [0, 2], [3, 1]], threshold="running_mean")
    model, _ = one_layer(gate=gate)
    gate.moving_mean.assign([[1.0, 2.0], [1.0, 4.0], [8.0, 2.0]])
    gate.updates.assign(7.0)
    (new, _) = keras_treegate.grow(model, depth=8).layers
    known = {0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0}
    means = new.gate.moving_mean.numpy()
    for unit, mean in zip(new.gate.units.flat, means.flat, strict=True):
        assert mean == known.get(unit, 3.0)
    assert float(new.gate.updates.numpy()) == 7


def test_new_thresholds_are_measured_on_a_sample():
    gate = SignGate(threshold="running_mean")
    model, _ = one_layer(gate=gate)
    gate.moving_mean.assign(normal(3, 2))
    gate.updates.assign(7.0)
    x = normal(20, 8) + 2
    (new, _) = keras_treegate.grow(model, depth=4, calibrate=x).layers
    means = new.gate.moving_mean.numpy()
    np.testing.assert_array_equal(means[:, :2], gate.moving_mean.numpy())
    expected = x.mean(axis=0)[new.gate.units[:, 2:]]
    np.testing.assert_allclose(means[:, 2:], expected, rtol=1e-5)


def test_a_sample_for_gates_without_means_is_refused():
    model, _ = one_layer()
    with pytest.raises(ValueError, match="`calibrate` must be left out"):
        keras_treegate.grow(model, depth=4, calibrate=normal(20, 8))


def trained(optimizer, policy=None):
    model, _ = one_layer()
    if policy is not None:
        model = keras.Sequential(
            [keras.Input((8,)), make(4, dtype=policy), keras.layers.ReLU()]
        )
    model.compile(optimizer, "mse", metrics=["mae"])
    model.fit(normal(24, 8), normal(24, 4), batch_size=8, verbose=0)
    return model


def test_the_optimizer_keeps_its_state_of_the_old_levels():
    model = trained(StepAwareAdam(0.01, weight_decay=0.1))
    new = keras_treegate.grow(model, depth=4)
    assert type(new.optimizer) is StepAwareAdam
    assert new.optimizer.weight_decay == 0.1
    assert int(new.optimizer.iterations.numpy()) == 3
    old, kept = (
        {
            re.sub(r"^sequential_(\d+_)?", "", variable.name): variable.numpy()
            for variable in each.optimizer.variables
        }
        for each in (model, new)
    )
    kinds = ("nodes", "clock", "kernel")  # that of rows is named by a clock
    slots = [name for name in old if any(kind in name for kind in kinds)]
    assert len(slots) == 3 * 3 + 2
    for name in slots:
        np.testing.assert_array_equal(kept[name], old[name])
    momenta = [n for n in slots if "nodes_1" in n and "momentum" in n]
    assert np.any(kept[momenta[0]] != 0)
    fresh = [name for name in kept if re.search(r"(nodes|clock)_[34]_", name)]
    assert len(fresh) == 6
    for name in fresh:
        np.testing.assert_array_equal(kept[name], 0)


def test_training_goes_on_as_if_the_new_levels_had_been_there():
    x, y = normal(24, 8, seed=2), normal(24, 4, seed=3)
    model = trained(StepAwareAdam(0.01))
    new = keras_treegate.grow(model, depth=3)
    # The old levels of both see the same gradients for one step.
    for each in (model, new):
        each.train_on_batch(x, y)
    for old, kept in zip(
        model.layers[0].nodes, new.layers[0].nodes[:3], strict=True
    ):
        np.testing.assert_allclose(old.numpy(), kept.numpy(), atol=1e-6)
    assert np.any(new.layers[0].nodes[3].numpy() != 0)
    before = models.values(model)
    new.fit(x, y, verbose=0)
    models.assert_unchanged(model, before)


def test_a_loss_scale_is_kept():
    model = trained(
        LossScaleOptimizer(StepAwareAdam(0.01), initial_scale=64.0),
        policy="mixed_float16",
    )
    new = keras_treegate.grow(model, depth=3)
    assert float(new.optimizer.dynamic_scale.numpy()) == float(
        model.optimizer.dynamic_scale.numpy()
    )
    assert int(new.optimizer.inner_optimizer.iterations.numpy()) == int(
        model.optimizer.inner_optimizer.iterations.numpy()
    )
    assert int(new.optimizer.step_counter.numpy()) > 0


def test_another_optimizer_starts_anew_and_says_so():
    model = trained(keras.optimizers.Adam(0.01))
    with pytest.warns(UserWarning, match=r"optimizer 'adam.*' is not kept"):
        new = keras_treegate.grow(model, depth=3)
    assert int(new.optimizer.iterations.numpy()) == 0
    new.fit(normal(8, 8), normal(8, 4), verbose=0)


def a_loss_of_ones_own(y, z):
    return keras.ops.mean(keras.ops.abs(y - z), axis=-1)


def test_a_loop_of_grow_and_fit_trains():
    model, _ = one_layer()
    model.compile(StepAwareAdam(0.03), a_loss_of_ones_own)
    x, y = normal(64, 8), normal(64, 4, seed=1)
    losses = []
    for depth in (2, 3, 4):
        model = keras_treegate.grow(model, depth)
        history = model.fit(x, y, epochs=3, verbose=0).history["loss"]
        losses += history
    assert model.layers[0].depth == 4
    assert losses[-1] < losses[0]
    assert np.any(model.layers[0].nodes[4].numpy() != 0)


REFUSED = {
    "less depth": (
        lambda m: keras_treegate.grow(m, depth=1),
        "(?s)`depth` must be at least.*Received: depth=1, for 'mine'.*prune",
    ),
    "too few gates": (
        lambda m: keras_treegate.grow(m, depth=9),
        "(?s)`depth` must be at most.*Received: depth=9.*reads 8.*'mine'",
    ),
    "no integer": (
        lambda m: keras_treegate.grow(m, depth=2.5),
        "(?s)`depth` must be an integer.*Received: depth=2.5",
    ),
    "no tree": (
        lambda m: keras_treegate.grow(m, depth=3, layers=lambda layer: False),
        "(?s)`model` must have at least one.*Received: .*upcycle",
    ),
    "a seed": (
        lambda m: keras_treegate.grow(m, depth=3, seed=-1),
        "(?s)`seed` must be.*Received: seed=-1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_grow_is_refused(case):
    call, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        call(one_layer()[0])


def test_trees_beyond_the_bound_are_refused(monkeypatch):
    monkeypatch.setenv("KERAS_TREEGATE_MAX_LAYER_GIB", "0.00001")
    with pytest.raises(ValueError, match=r"(?s)`units` and `depth` must make"):
        keras_treegate.grow(one_layer()[0], depth=8)


def test_calibration_leaves_padding_out():
    gate = SignGate(threshold="running_mean", seed=0)
    layer = TreeGatedDense(3, depth=2, num_trees=2, gate=gate)
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    x = normal(4, 5, 6) + 5
    real = np.arange(5) < np.array([5, 2, 1, 3])[:, None]
    x[~real] = 0
    model(x, training=True)
    grown = keras_treegate.grow(model, depth=4, calibrate=x)
    (new,) = [each for each in grown.layers if hasattr(each, "gate")]
    expected = x[real].mean(axis=0)[new.gate.units[:, 2:]]
    found = new.gate.moving_mean.numpy()[:, 2:]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
