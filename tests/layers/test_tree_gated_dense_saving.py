"""Configs, specs and files."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests.layers.read_saved import build_model
from tests.random_layers import assert_close, normal, randomize

FULL = {
    "units": 3,
    "depth": 2,
    "num_trees": 2,
    "gate": SignGate(threshold="running_mean", momentum=0.8, seed=4),
    "credit": "straight",
    "activation": "relu",
    "use_bias": True,
    "kernel_initializer": "he_normal",
    "node_initializer": keras.initializers.RandomNormal(stddev=0.5, seed=1),
    "bias_initializer": "ones",
    "bias_regularizer": keras.regularizers.L2(0.1),
    "bias_constraint": keras.constraints.MaxNorm(2.0),
    "seed": 9,
    "name": "routed",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
CONFIGS = {
    "defaults": {"units": 4},
    "the paper": {"units": 4, "depth": 3, "num_trees": None},
    "given units": {
        "units": 2,
        "depth": 2,
        "num_trees": 1,
        "gate": SignGate(units=np.array([[3, 1]])),
    },
    "everything": FULL,
}


@pytest.mark.parametrize("case", CONFIGS)
def test_config_round_trip(case):
    layer = TreeGatedDense(**CONFIGS[case])
    config = layer.get_config()
    again = TreeGatedDense.from_config(config)
    assert again.get_config() == config
    signature = set(FULL) - {"name", "dtype", "trainable"}
    assert signature <= set(config)
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "keras_treegate>TreeGatedDense"
    loaded = keras.saving.deserialize_keras_object(serialized)
    assert loaded.get_config() == config


def test_config_keeps_every_argument():
    layer = TreeGatedDense(**FULL)
    again = TreeGatedDense.from_config(layer.get_config())
    assert (again.units, again.depth, again.num_trees) == (3, 2, 2)
    assert again.gate.threshold == "running_mean"
    assert again.gate.momentum == 0.8
    assert again.activation is keras.activations.relu
    assert isinstance(again.kernel_initializer, keras.initializers.HeNormal)
    assert again.node_initializer.stddev == 0.5
    assert isinstance(again.bias_initializer, keras.initializers.Ones)
    assert float(again.bias_regularizer.l2) == pytest.approx(0.1)
    assert again.bias_constraint.max_value == 2.0
    assert again.name == "routed"
    assert again.dtype_policy.name == "mixed_bfloat16"
    assert again.trainable is False


def test_config_can_be_written_as_json():
    model = keras.Sequential(
        [keras.Input((4,)), TreeGatedDense(**CONFIGS["given units"])]
    )
    again = keras.models.model_from_json(model.to_json())
    np.testing.assert_array_equal(again.layers[0].gate.units, [[3, 1]])


def test_a_layer_made_from_a_config_does_not_share_its_gate():
    layer = TreeGatedDense(2, depth=2)
    again = TreeGatedDense.from_config(layer.get_config())
    layer.build((None, 4))
    again.build((None, 5))
    assert again.gate is not layer.gate


@pytest.mark.parametrize("shape", [(8, 5), (2, 3, 5), (None, None, 5)])
def test_output_shape_and_spec(shape):
    layer = TreeGatedDense(3, depth=2, dtype="mixed_bfloat16")
    assert layer.compute_output_shape(shape) == (*shape[:-1], 3)
    spec = layer.compute_output_spec(keras.KerasTensor(shape, "float32"))
    assert spec.shape == (*shape[:-1], 3)
    assert spec.dtype == "bfloat16"


def test_the_same_seed_draws_the_same_gates():
    def units(seed):
        layer = TreeGatedDense(2, depth=4, num_trees=4, seed=seed)
        layer.build((None, 16))
        return np.array(layer.gate.units)

    np.testing.assert_array_equal(units(1), units(1))
    assert np.any(units(1) != units(2))
    assert np.any(units(None) != units(None))


def test_set_random_seed_makes_unseeded_layers_repeatable():
    def numbers():
        keras.utils.set_random_seed(5)
        layer = TreeGatedDense(2, depth=2, num_trees=4)
        layer.build((None, 16))
        return np.array(layer.gate.units), layer.nodes[0].numpy()

    for first, second in zip(numbers(), numbers(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_keras_file_round_trip(tmp_path):
    model = build_model(seed=1)
    x = normal(6, 5)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(x, normal(6, 3), verbose=0)  # moves the means
    assert np.any(model.layers[0].gate.moving_mean.numpy() != 0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    assert_close(loaded.predict(x, verbose=0), expected, 1e-6)
    for one, two in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_weights_file_brings_gate_units_and_means(tmp_path):
    model = build_model(seed=1)
    x = normal(6, 5)
    gate = model.layers[0].gate
    gate(x, training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    other = build_model(seed=2)
    loaded = other.layers[0].gate
    assert np.any(gate.units != loaded.units)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(gate.units, loaded.units)
    mean = gate.moving_mean.numpy()
    assert np.any(mean != 0)
    np.testing.assert_array_equal(loaded.moving_mean.numpy(), mean)


def test_loaded_units_also_route_a_function_that_was_traced_before(tmp_path):
    model, other = build_model(seed=1), build_model(seed=2)
    for layer in model.layers:
        randomize(layer)
    x = normal(6, 5)
    other.predict(x, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    expected = model.predict(x, verbose=0)
    assert_close(other.predict(x, verbose=0), expected, 1e-6)


def test_get_weights_and_set_weights_copy_the_routes():
    one = TreeGatedDense(3, depth=3, num_trees=2, seed=1)
    two = TreeGatedDense(3, depth=3, num_trees=2, seed=2)
    x = normal(6, 5)
    one.build(x.shape)
    two.build(x.shape)
    randomize(one)
    two.set_weights(one.get_weights())
    np.testing.assert_array_equal(two.gate.units, one.gate.units)
    assert_close(two(x), ops.convert_to_numpy(one(x)), 1e-6)


def test_cloned_models_route_with_the_same_seed():
    model = build_model(seed=1)
    clone = keras.models.clone_model(model)
    units = model.layers[0].gate.units
    np.testing.assert_array_equal(clone.layers[0].gate.units, units)


WAYS = ("model", "weights", "set_weights", "legacy", "legacy weights")
ORDER = ["nodes_0", "nodes_1", "nodes_2", "bias", "clock_0", "stamps_0"]
ORDER += ["clock_1", "stamps_1", "clock_2", "stamps_2"]
ORDER += ["visits_low", "visits_high", "units"]


@pytest.mark.parametrize("trainable", [True, False])
def test_weights_have_one_order_on_every_backend(trainable):
    # Legacy files hold trainable weights before the others.
    layer = TreeGatedDense(3, depth=2, num_trees=2, trainable=trainable)
    layer.build((None, 5))
    assert [w.name for w in layer.weights] == ORDER
    parts = layer.trainable_weights + layer.non_trainable_weights
    assert [w.name for w in parts] == ORDER
    outer = keras.Sequential([keras.Input((5,)), keras.Sequential([layer])])
    assert [w.name for w in outer.weights] == ORDER


def test_every_other_backend_reads_what_this_one_writes(tmp_path):
    model = build_model(seed=1)
    x = normal(6, 5)
    model.layers[0].gate(x + 1, training=True)
    for layer in model.layers:
        randomize(layer)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.h5")
    np.savez(tmp_path / "weights.npz", *model.get_weights())
    np.save(tmp_path / "inputs.npy", x)
    expected = model.predict(x, verbose=0)
    here = keras.backend.backend()
    for backend in {"tensorflow", "jax", "torch"} - {here}:
        done = subprocess.run(
            [sys.executable, "-m", "tests.layers.read_saved", tmp_path],
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        for read in WAYS:
            y = np.load(tmp_path / f"{backend}-{read}.npy")
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        order = (tmp_path / f"{backend}-order.txt").read_text()
        assert order == repr([(w.name, tuple(w.shape)) for w in model.weights])
