"""The sign gate: bits, units and the moving mean."""

import re

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_treegate import gates
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests import gradients, oracle
from tests.random_layers import assert_close, few, normal


class Activations(keras.layers.Layer):
    """The part of a gate that credit assignments read."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate
        self.built = True

    def call(self, inputs):
        return self.gate.activations(inputs)


def codes_of(gate, source, **kwargs):
    return ops.convert_to_numpy(gate(source, **kwargs))


def running_mean_layer(depth=2, num_trees=3, momentum=0.9, width=6):
    gate = SignGate(threshold="running_mean", momentum=momentum, seed=0)
    layer = TreeGatedDense(2, depth, num_trees, gate=gate)
    layer.build((None, width))
    return layer, gate


def test_codes_equal_the_oracle():
    units = np.array([[4, 0, 1], [2, 2, 3]])
    source = normal(5, 2, 6)
    bits = oracle.gate_bits(source.reshape(10, 6), units)
    expected = oracle.leaf_codes(bits).reshape(5, 2, 2)
    np.testing.assert_array_equal(
        codes_of(SignGate(units=units), source), expected
    )


def test_zero_minus_zero_and_nan_read_as_bit_zero():
    source = [[0.0, -0.0, np.nan, -1.0, -np.inf, 1e-30, np.inf]]
    gate = SignGate(units=[[unit] for unit in range(7)])
    codes = codes_of(gate, np.array(source, "float32"))
    np.testing.assert_array_equal(codes, [[0, 0, 0, 0, 0, 1, 1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_codes_of_sources_of_every_dtype(dtype):
    source = ops.cast(ops.convert_to_tensor(normal(4, 5)), dtype)
    exact = ops.convert_to_numpy(ops.cast(source, "float32"))
    units = np.array([[0, 1, 2], [4, 3, 0]])
    bits = oracle.gate_bits(exact, units)
    for threshold in ("zero", "running_mean"):
        gate = SignGate(units=units, threshold=threshold)
        codes = codes_of(gate, source)
        np.testing.assert_array_equal(codes, oracle.leaf_codes(bits))


ON_XLA = keras.backend.backend() != "torch"
NEAR_ZERO = [6e-8, 1e-5, 1e-38, 1e-40, 2.0**-126, 2.0**-127, 1e-45, -1e-40, 0]


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("threshold", ["zero", "running_mean"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_subnormal_numbers_take_one_path_everywhere(dtype, threshold, jit):
    # XLA and Eigen take them for 0; PyTorch and NumPy compute with them.
    source = ops.cast(ops.convert_to_tensor(np.array([NEAR_ZERO])), dtype)
    # The source's values, which no backend flushes on the way out.
    exact = np.array([NEAR_ZERO]).astype(ml_dtypes.finfo(dtype).dtype)
    units = np.arange(len(NEAR_ZERO))[:, None]
    gate = SignGate(units=units, threshold=threshold)
    inputs = keras.Input((len(NEAR_ZERO),), dtype=dtype)
    model = keras.Sequential([inputs, gate])
    model.compile(run_eagerly=not jit, jit_compile=jit and ON_XLA)
    bits = oracle.gate_bits(exact.astype("float64"), units)
    expected = oracle.leaf_codes(bits)
    np.testing.assert_array_equal(codes_of(gate, source), expected)
    codes = model.predict(source, verbose=0)
    np.testing.assert_array_equal(codes, expected)


def test_a_subnormal_threshold_is_zero():
    units = np.array([[0, 0, 0, 1]])
    means = np.array([[1e-40, -1e-40, 2.0**-126, -(2.0**-126)]], "float32")
    source = np.array([[2.0**-126, -1e-40], [1e-40, 0.0]], "float32")
    gate = SignGate(units=units, threshold="running_mean")
    gate.build(source.shape)
    gate.moving_mean.assign(means)
    bits = oracle.gate_bits(source, units, means)
    np.testing.assert_array_equal(bits[:, 0], [[1, 1, 0, 1], [0, 0, 0, 1]])
    expected = oracle.leaf_codes(bits)
    np.testing.assert_array_equal(codes_of(gate, source), expected)


def test_activations_have_their_gradient_at_zero_too():
    # A unit at 0 is to learn from `NoisyRectifier` and `Reinforce`.
    gate = SignGate(units=[[0], [1], [2], [3]])
    gate.build((None, 4))
    layer = Activations(gate)
    x = np.array([[0.0, 1e-40, 2.0, -2.0]], "float32")
    (slopes,), _ = gradients.of_layer(layer, np.ones((1, 4, 1)), x)
    np.testing.assert_array_equal(slopes, np.ones((1, 4)))


def test_units_are_drawn_without_replacement_in_each_tree():
    layer = TreeGatedDense(1, depth=6, num_trees=6, seed=0)
    layer.build((None, 6))
    units = layer.gate.units
    assert units.shape == (6, 6)
    np.testing.assert_array_equal(np.sort(units), [range(6)] * 6)
    assert len({tuple(row) for row in units.tolist()}) > 1


def test_units_come_from_the_whole_gate_source():
    layer = TreeGatedDense(1, depth=2, num_trees=60, seed=0)
    layer.build((None, 60), (None, 8))
    np.testing.assert_array_equal(np.unique(layer.gate.units), range(8))


def test_given_units_are_kept():
    gate = SignGate(units=[[3, 1], [0, 2]])
    np.testing.assert_array_equal(gate.units, [[3, 1], [0, 2]])
    TreeGatedDense(1, depth=2, num_trees=2, gate=gate).build((None, 5))
    np.testing.assert_array_equal(gate.units, [[3, 1], [0, 2]])
    assert np.issubdtype(gate.units.dtype, np.integer)


def test_changing_the_returned_units_changes_nothing():
    gate = SignGate(units=[[3, 1]])
    gate.units[0, 0] = 2
    TreeGatedDense(1, depth=2, num_trees=1, gate=gate).build((None, 5))
    gate.units[0, 0] = 2
    np.testing.assert_array_equal(gate.units, [[3, 1]])


@few
@given(
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.5, 0.75, 0.99]),
    st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=6),
)
def test_the_moving_mean_equals_the_oracle(seed, momentum, batches):
    units = np.array([[0, 1], [5, 2], [3, 3]])
    gate = SignGate(units=units, threshold="running_mean", momentum=momentum)
    expected = oracle.MovingMean(units, momentum)
    random = np.random.default_rng(seed)
    for batch in batches:
        source = random.normal(3, size=(batch, 6)).astype("float32")
        source[random.random(source.shape) < 0.2] = np.nan
        source[random.random(source.shape) < 0.1] = np.inf
        expected.update(source)
        codes = codes_of(gate, source, training=True)
        assert_close(gate.moving_mean, expected.mean)
        bits = oracle.gate_bits(source, units, gate.moving_mean.numpy())
        np.testing.assert_array_equal(codes, oracle.leaf_codes(bits))


def test_the_mean_is_updated_first_and_then_used():
    gate = SignGate(units=[[0]], threshold="running_mean")
    source = np.array([[10.0], [12.0]], "float32")
    before = codes_of(gate, source)
    np.testing.assert_array_equal(before, [[1], [1]])
    during = codes_of(gate, source, training=True)
    np.testing.assert_array_equal(during, [[0], [1]])
    after = codes_of(gate, source)
    np.testing.assert_array_equal(after, [[0], [1]])


def test_axes_between_batch_and_features_are_averaged_too():
    layer, gate = running_mean_layer()
    source = normal(2, 3, 4, 6) + 1
    layer(source, training=True)
    expected = oracle.MovingMean(gate.units).update(source.reshape(24, 6))
    assert_close(gate.moving_mean, expected)


def test_the_mean_of_a_source_of_low_precision_is_kept_in_float32():
    gate = SignGate(units=[[0]], threshold="running_mean", momentum=0.0)
    source = np.full((4096, 1), 1.0, "float16")
    source[0] = 3.0
    gate(ops.convert_to_tensor(source), training=True)
    assert gate.moving_mean.dtype == "float32"
    assert_close(gate.moving_mean, [[1 + 2 / 4096]], 1e-6)


def test_values_that_are_never_negative_split_in_halves():
    layer, _ = running_mean_layer(depth=1, num_trees=6)
    source = np.abs(normal(400, 6)) + 5
    layer(source, training=True)
    codes = ops.convert_to_numpy(layer.leaf_codes(source))
    assert 0.3 < codes.mean() < 0.6


def test_the_zero_threshold_keeps_no_moving_mean():
    layer = TreeGatedDense(2, depth=2, seed=0)
    layer.build((None, 6))
    assert layer.gate.moving_mean is None
    assert len(layer.gate.variables) == 1  # the units


@pytest.mark.parametrize("frozen", ["layer", "gate", "model"])
def test_a_frozen_gate_keeps_its_mean(frozen):
    layer, gate = running_mean_layer()
    model = keras.Sequential([keras.Input((6,)), layer])
    {"layer": layer, "gate": gate, "model": model}[frozen].trainable = False
    gate.moving_mean.assign(gate.moving_mean.value + 7.0)
    model(normal(4, 6), training=True)
    np.testing.assert_array_equal(gate.moving_mean.numpy(), 7.0)


@pytest.mark.parametrize("training", [None, False])
def test_inference_keeps_the_mean(training):
    layer, gate = running_mean_layer()
    source = normal(4, 6) + 1
    layer(source, training=training)
    layer.leaf_codes(source)
    layer.effective_kernel(source)
    np.testing.assert_array_equal(gate.moving_mean.numpy(), 0.0)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_fit_moves_the_mean_and_evaluate_and_predict_do_not(run_eagerly):
    layer, gate = running_mean_layer()
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    source = normal(8, 6) + 1
    model.evaluate(source, normal(8, 2), verbose=0)
    model.predict(source, verbose=0)
    np.testing.assert_array_equal(gate.moving_mean.numpy(), 0.0)
    model.fit(
        source, normal(8, 2), batch_size=4, epochs=2, shuffle=False, verbose=0
    )
    expected = oracle.MovingMean(gate.units, 0.9)
    for batch in (source[:4], source[4:]) * 2:
        expected.update(batch)
    assert_close(gate.moving_mean, expected.mean)


def test_a_moving_mean_is_no_trainable_variable():
    layer, gate = running_mean_layer()
    trainable = {v.path for v in layer.trainable_variables}
    assert gate.moving_mean.path not in trainable
    weights = {v.path for v in layer.non_trainable_weights}
    assert gate.moving_mean.path in weights


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"units": [[0, 1], [2, 0]]},
        {"threshold": "running_mean", "momentum": 0.5, "seed": 3},
    ],
)
def test_config_round_trip(arguments):
    gate = SignGate(**arguments)
    config = gate.get_config()
    for argument, value in arguments.items():
        assert config[argument] == value
    assert SignGate.from_config(config).get_config() == config
    serialized = keras.saving.serialize_keras_object(gate)
    assert serialized["registered_name"] == "keras_treegate>SignGate"
    assert gates.get(serialized).get_config() == config


BAD_ARGUMENTS = [
    ("threshold", "median", "'zero' or 'running_mean'", "Use"),
    ("threshold", None, "'zero' or 'running_mean'", "Use"),
    ("threshold", ["zero"], "'zero' or 'running_mean'", "Use"),
    ("threshold", np.zeros(2), "'zero' or 'running_mean'", "Use"),
    ("momentum", 1.0, "below 1", "Leave it out"),
    ("momentum", -0.1, "at least 0", "Leave it out"),
    ("momentum", "much", "number", "Leave it out"),
    ("momentum", True, "number", "Leave it out"),
    ("momentum", 10**400, "number", "Leave it out"),
    ("momentum", float("nan"), "number", "Leave it out"),
    ("units", [0, 1], r"shape \(num_trees, depth\)", "Write"),
    ("units", [[0.5, 1.0]], "integers", "Write"),
    ("units", [[True, False]], "integers", "Write"),
    ("units", [[0, -1]], "at least 0", "Write"),
    ("units", [[0, 1], [2]], "integers", "Write"),
    ("units", "all", "integers", "Write"),
    ("units", [[2**31]], "indices", "Write"),
    ("units", [[2**64]], "indices", "Write"),
    ("units", [[2**70]], "indices", "Write"),
    ("seed", -1, "at least 0", "Pass"),
    ("seed", 0.5, "integer", "Pass"),
    ("seed", 2**31, "at most 2147483647", "Pass"),
    ("seed", 2**40, "at most 2147483647", "Pass"),
    ("seed", 2**64, "at most 2147483647", "Pass"),
]


@pytest.mark.parametrize(
    ("argument", "value", "accepted", "advice"), BAD_ARGUMENTS
)
def test_bad_arguments(argument, value, accepted, advice):
    received = re.escape(repr(value))
    match = rf"(?s)`{argument}`.*{accepted}.*Received: .*{received}.*{advice}"
    with pytest.raises(ValueError, match=match):
        SignGate(**{argument: value})


def test_units_of_a_gate_that_has_not_drawn_them():
    with pytest.raises(ValueError, match=r"(?s)drawn when.*Build the layer"):
        _ = SignGate().units


def test_a_gate_by_itself_needs_units():
    with pytest.raises(
        ValueError, match=r"(?s)Received: units=None.*Pass `units=`"
    ):
        SignGate()(normal(2, 3))


def test_masked_values_do_not_enter_the_mean():
    units = np.array([[0, 1], [3, 2]])
    gate = SignGate(units=units, threshold="running_mean")
    source, real = normal(4, 3, 4) + 2, np.array([True, False, True])
    gate(source, training=True, mask=np.tile(real, (4, 1)))
    expected = oracle.MovingMean(units).update(source[:, real].reshape(8, 4))
    assert_close(gate.moving_mean, expected)
    gate(source, training=True, mask=np.zeros(4, bool))  # of whole examples
    assert_close(gate.moving_mean, expected)
    assert float(gate.updates.numpy()) == 1


def test_a_gate_by_itself_finds_the_mask_of_its_source():
    gate = SignGate(units=[[0, 1]], threshold="running_mean")
    source = normal(4, 3, 2) + 2
    source[:, 1:] = 0
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, gate(keras.layers.Masking()(inputs)))
    model(source, training=True)
    expected = oracle.MovingMean(gate.units).update(source[:, 0])
    assert_close(gate.moving_mean, expected)
