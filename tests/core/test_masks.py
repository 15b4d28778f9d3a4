"""Masked steps leave no trace, however the mask comes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.credit import Reinforce
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tests import oracle
from tests.random_layers import assert_close, normal

STEPS, WIDTH, TREES, LEAVES = 6, 4, 2, 4
LENGTHS = [6, 2, 0, 5]
REAL = np.arange(STEPS) < np.array(LENGTHS)[:, None]  # (B, T)
WAYS = {"graph": {}, "eager": {"run_eagerly": True}}
if keras.backend.backend() != "torch":
    WAYS["compiled"] = {"jit_compile": True}


def made_layer(credit="straight", **kwargs):
    gate = SignGate(threshold="running_mean", momentum=0.9, seed=0)
    return TreeGatedDense(
        3, 2, num_trees=TREES, gate=gate, credit=credit, **kwargs
    )


def padded(seed=0, shift=5.0):
    """Draws steps (B, T, P) with a mean far from the zeros of padding."""
    x = normal(len(LENGTHS), STEPS, WIDTH, seed=seed) + shift
    return np.where(REAL[..., None], x, 0).astype("float32")


def assert_only(layer, source, real=REAL, steps=1):
    """Asserts that visits and mean are those of the real steps of a source."""
    source = source[real]
    gate = layer.gate
    expected = oracle.MovingMean(gate.units, 0.9)
    for _ in range(steps):
        expected.update(source)
    assert_close(gate.moving_mean, expected.mean)
    assert float(gate.updates.numpy()) == steps
    visits = layer.leaf_visits
    np.testing.assert_array_equal(visits.sum(axis=1), steps * len(source))
    if layer.credit.__class__.__name__ == "Straight" and steps == 1:
        codes = ops.convert_to_numpy(layer.leaf_codes(source))
        counts = [np.bincount(tree, minlength=LEAVES) for tree in codes.T]
        np.testing.assert_array_equal(visits, counts)


def masking(layer):
    inputs = keras.Input((STEPS, WIDTH))
    hidden = keras.layers.Dropout(0.0)(keras.layers.Masking()(inputs))
    return keras.Model(inputs, layer(hidden))


def given(layer):
    inputs = keras.Input((STEPS, WIDTH))
    mask = ops.any(ops.not_equal(inputs, 0), axis=-1)
    return keras.Model(inputs, layer(inputs, mask=mask))


def distributed(layer):
    inputs = keras.Input((STEPS, WIDTH))
    hidden = keras.layers.Masking()(inputs)
    return keras.Model(inputs, keras.layers.TimeDistributed(layer)(hidden))


def sequential(layer):
    cover = keras.layers.Masking()
    return keras.Sequential([keras.Input((STEPS, WIDTH)), cover, layer])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model_of", [masking, given, sequential])
def test_fit_learns_and_counts_the_real_steps_alone(model_of, way):
    layer, x = made_layer(), padded()
    model = model_of(layer)
    model.compile("sgd", "mse", **WAYS[way])
    model.fit(x, x[..., :3], batch_size=len(x), verbose=0)
    assert_only(layer, x)


def test_a_wrapper_hands_its_mask_on():
    layer, x = made_layer(), padded()
    model = distributed(layer)
    model.compile("sgd", "mse")
    model.fit(x, x[..., :3], batch_size=len(x), verbose=0)
    np.testing.assert_array_equal(layer.leaf_visits.sum(axis=1), REAL.sum())
    # A call for each step, of which all but one example's may be padding.
    expected = oracle.MovingMean(layer.gate.units, 0.9)
    for step in range(STEPS):
        expected.update(x[REAL[:, step], step])
    assert_close(layer.gate.moving_mean, expected.mean)


def test_embedded_padding_is_left_out():
    layer = made_layer()
    embedding = keras.layers.Embedding(9, WIDTH, mask_zero=True)
    model = keras.Sequential([keras.Input((STEPS,)), embedding, layer])
    tokens = np.where(REAL, 1 + np.arange(STEPS), 0)
    embedding.embeddings.assign(normal(9, WIDTH, seed=4) + 2)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(tokens, np.zeros((*tokens.shape, 3)))
    assert_only(layer, embedding.embeddings.numpy()[tokens])


@pytest.mark.parametrize("credit", ["straight", "reinforce", "noisy_rectifier"])
@pytest.mark.parametrize("masked", ["inputs", "gate_inputs", "both"])
def test_masks_of_inputs_and_of_gate_inputs(masked, credit):
    layer = made_layer(credit)
    inputs, source = keras.Input((STEPS, WIDTH)), keras.Input((STEPS, 5))
    cover = keras.layers.Masking()
    outputs = layer(
        inputs if masked == "gate_inputs" else cover(inputs),
        gate_inputs=source if masked == "inputs" else cover(source),
    )
    model = keras.Model([inputs, source], outputs)
    x, z = padded(), normal(len(LENGTHS), STEPS, 5, seed=1) + 3
    x[1, 1] = 0  # padding of the inputs alone
    z[3, 4] = 0  # and of the gate source alone
    z[~REAL] = 0
    real = {
        "inputs": (x != 0).any(-1),
        "gate_inputs": (z != 0).any(-1),
        "both": (x != 0).any(-1) & (z != 0).any(-1),
    }[masked]
    model([x, z], training=True)
    np.testing.assert_array_equal(layer.leaf_visits.sum(axis=1), real.sum())
    expected = oracle.MovingMean(layer.gate.units, 0.9).update(z[real])
    assert_close(layer.gate.moving_mean, expected)


def test_a_mask_of_examples_covers_all_their_steps():
    layer, x = made_layer(), normal(3, 2, STEPS, WIDTH) + 5
    real = np.array([True, False, True])
    layer(x, mask=real, training=True)
    np.testing.assert_array_equal(layer.leaf_visits.sum(axis=1), 2 * 2 * STEPS)
    expected = oracle.MovingMean(layer.gate.units, 0.9)
    assert_close(
        layer.gate.moving_mean, expected.update(x[real].reshape(-1, WIDTH))
    )


def test_a_mask_of_rows_of_features():
    layer, x = made_layer(), normal(5, WIDTH) + 5
    x[[1, 4]] = 0
    model = keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Masking(), layer]
    )
    model(x, training=True)
    assert_only(layer, x, x.any(axis=1))


def test_a_batch_of_padding_changes_nothing():
    layer, x = made_layer(), padded()
    model = masking(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(x, x[..., :3])
    before = [variable.numpy() for variable in layer.variables]
    model.train_on_batch(np.zeros_like(x), x[..., :3])
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_outputs_do_not_depend_on_the_mask():
    layer, x = made_layer(), padded()
    layer.build(x.shape)
    layer.nodes[2].assign(normal(*layer.nodes[2].shape))
    with_mask = layer(x, mask=np.zeros(x.shape[:2], bool))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(with_mask), ops.convert_to_numpy(layer(x))
    )


def test_a_model_that_is_given_its_mask_can_be_folded(tmp_path):
    model, x = given(made_layer()), padded()
    folded = keras_treegate.fold(model)
    assert_close(folded(x), ops.convert_to_numpy(model(x)))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    assert_close(loaded(x), ops.convert_to_numpy(model(x)))


@pytest.mark.parametrize(
    ("shape", "received"),
    [((3, 5), r"\(3, 5\)"), ((3, STEPS, WIDTH), r"\(3, 6, 4\)")],
)
def test_a_mask_that_does_not_fit_is_refused(shape, received):
    layer, x = made_layer(), normal(3, STEPS, WIDTH)
    match = rf"`mask` must have the first axes of.*Received: shape={received}"
    with pytest.raises(ValueError, match=match):
        layer(x, mask=np.ones(shape, bool))


@pytest.mark.parametrize("positions", ["all", "own"])
def test_a_baseline_learns_from_real_positions_alone(positions):
    layer, x = made_layer(Reinforce(seed=0)), padded()
    model = masking(layer)
    loss = ReinforceLoss("mse", positions)
    model.compile(keras.optimizers.SGD(0.0), loss)
    y = np.where(REAL[..., None], 0.0, 1e6) * np.ones(3)
    model.train_on_batch(x, y)
    baseline = layer.credit.moving_means.numpy()[0]
    assert 0 < baseline < 1e3
    model.train_on_batch(np.zeros_like(x), y)
    np.testing.assert_array_equal(
        layer.credit.moving_means.numpy()[0], baseline
    )


@pytest.mark.parametrize("positions", ["all", "own"])
def test_the_entropy_bonus_is_that_of_real_positions(positions):
    layer = TreeGatedDense(
        1,
        depth=1,
        num_trees=1,
        gate=SignGate(units=[[0]]),
        credit=Reinforce(baseline=None, entropy_bonus=0.5, seed=0),
    )  # nodes of zero: the bits do not matter for the loss
    inputs, source = keras.Input((STEPS, WIDTH)), keras.Input((STEPS, 1))
    gates = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    hidden = keras.layers.Masking()(inputs)
    model = keras.Model(
        [inputs, source], layer(hidden, gate_inputs=gates(source))
    )
    x, z = padded(), normal(len(LENGTHS), STEPS, 1, seed=3)
    y = model.predict([x, z], verbose=0)  # no loss: the bits are worth nothing
    model.compile(keras.optimizers.SGD(1.0), ReinforceLoss("mse", positions))
    model.train_on_batch([x, z], y)
    # dH/dk = z * -a p (1 - p) of an activation a = k z, of a mean over the
    # steps of an example; a loss has the weight 1 / all real steps.
    a = z[..., 0]
    p = 1 / (1 + np.exp(-a))
    slopes = np.where(REAL, -a * p * (1 - p) * a, 0)
    # Each real loss has the mean of its example, or its own step.
    expected = 1 + 0.5 * slopes.sum() / REAL.sum()
    np.testing.assert_allclose(gates.kernel.numpy(), [[expected]], rtol=1e-4)
