"""A score belongs to the step that it was made in, and to no other."""

import functools
import gc

import keras
import numpy as np
import pytest

from keras_treegate.credit import Reinforce, scores
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")


def make_model(loss="mse", **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    gates = keras.layers.Dense(4)(keras.layers.Dense(4, "tanh")(inputs))
    layer = TreeGatedDense(2, depth=2, num_trees=2, credit=Reinforce(seed=1))
    outputs = keras.layers.Dense(2)(layer(inputs, gate_inputs=gates))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", ReinforceLoss(loss), **options)
    return model, layer


def by_hand(model, layer, call):
    """Does a call, and sets the samples back to where they were."""
    state = layer.credit.seed_generator.state
    before = keras.ops.convert_to_numpy(state.value)
    call()
    state.assign(before)
    gc.collect()


def trained(model):
    # Batches of 8 and of 4, the sizes of the calls by hand.
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return [variable.numpy() for variable in model.trainable_variables]


CALLS = {
    "training": lambda model: model(X[:8], training=True),
    "twice": lambda model: [model(X[:n], training=True) for n in (4, 8)],
    "nested": lambda model: keras.Sequential([model])(X[:4], training=True),
    "evaluate": lambda model: model.evaluate(X[:8], Y[:8], verbose=0),
    "predict": lambda model: model.predict(X[:8], verbose=0),
}


@functools.cache
def expected_of(eagerly):
    return trained(make_model(run_eagerly=eagerly)[0])


# In a compiled step of TensorFlow, scores of calls by hand are of another kind;
# JAX is very slow eagerly, and PyTorch always is eager.
EAGERLY = keras.backend.backend() == "tensorflow"


@pytest.mark.parametrize(
    ("call", "eagerly"),
    [*((call, EAGERLY) for call in CALLS), ("training", False)],
)
def test_a_call_by_hand_does_not_change_a_later_fit(call, eagerly):
    expected = expected_of(eagerly)
    model, layer = make_model(run_eagerly=eagerly)
    by_hand(model, layer, lambda: CALLS[call](model))
    assert scores.waiting() == 0
    for found, values in zip(trained(model), expected, strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)


def test_a_step_that_fails_before_its_loss_leaves_no_score():
    def failing(y, y_pred):
        raise RuntimeError("no loss today")

    model, _ = make_model(failing, run_eagerly=EAGERLY)
    with pytest.raises(RuntimeError, match="no loss today"):
        model.train_on_batch(X[:8], Y[:8])
    expected = expected_of(EAGERLY)
    found = trained(make_model(run_eagerly=EAGERLY)[0])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scores_of_another_model_are_not_of_this_step():
    other, _ = make_model(run_eagerly=EAGERLY)
    expected = expected_of(EAGERLY)
    model, _ = make_model(run_eagerly=EAGERLY)
    other(X[:8], training=True)
    gc.collect()
    for found, values in zip(trained(model), expected, strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
