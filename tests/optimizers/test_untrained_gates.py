"""Layers that only gate are warned about, once, and others are not."""

import warnings

import keras
import numpy as np
import pytest

from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from keras_treegate.optimizers import (
    StepAwareAdagrad,
    StepAwareAdam,
    StepAwareSGD,
)

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
TOKENS = np.random.default_rng(1).integers(0, 5, (32, 6))


def told(model, data=X, fits=1, optimizer=None, loss="mse"):
    """Returns the warnings of a model's fits that tell of gates."""
    model.compile(optimizer or StepAwareAdam(0.01, weight_decay=0.1), loss)
    targets = [np.ones((32, *o.shape[1:])) for o in model.outputs]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(fits):
            model.fit(data, targets, batch_size=16, epochs=2, verbose=0)
    found = [str(w.message) for w in found]
    return [text for text in found if "makes its gates" in text]


def routed(x, gates, credit="straight"):
    layer = TreeGatedDense(3, depth=2, credit=credit, name="tree", seed=0)
    return layer(x, gate_inputs=gates)


def router(x):
    hidden = keras.layers.Dense(5, "tanh", name="hidden")(x)
    return keras.layers.Dense(4, name="router")(hidden)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: StepAwareAdam(0.01),
        lambda: StepAwareAdagrad(0.01),
        lambda: StepAwareSGD(0.01, momentum=0.5),
    ],
)
def test_layers_that_only_gate_are_named_with_the_cure(optimizer):
    x = keras.Input((6,))
    model = keras.Model(x, routed(x, router(x)))
    (text,) = told(model, fits=2, optimizer=optimizer())
    for part in ("'hidden', 'router'", "'tree'", '"reinforce"', "elsewhere"):
        assert part in text


@pytest.mark.parametrize("credit", ["reinforce", "noisy_rectifier"])
def test_gates_that_learn_are_not_warned_about(credit):
    x = keras.Input((6,))
    model = keras.Model(x, routed(x, router(x), credit))
    assert told(model, loss=ReinforceLoss("mse")) == []


def used_elsewhere(x):
    gates = router(x)
    return keras.layers.Concatenate()([routed(x, gates), gates])


def used_as_an_output(x):
    gates = router(x)
    return [routed(x, gates), gates]


def used_as_the_input(x):
    gates = router(x)
    return routed(gates, gates)


def used_by_another_tree(x):
    gates = router(x)
    other = TreeGatedDense(3, depth=1, name="other")(gates)
    return keras.layers.Add()([routed(x, gates), other])


def without_weights(x):
    return routed(x, keras.layers.LayerNormalization(trainable=False)(x))


@pytest.mark.parametrize(
    "outputs",
    [
        used_elsewhere,
        used_as_an_output,
        used_as_the_input,
        used_by_another_tree,
        without_weights,
    ],
)
def test_layers_that_learn_elsewhere_are_not_warned_about(outputs):
    x = keras.Input((6,))
    assert told(keras.Model(x, outputs(x))) == []


def test_an_embedding_that_is_used_elsewhere_is_not_warned_about():
    tokens = keras.Input((6,), dtype="int32")
    embedded = keras.layers.Embedding(5, 4, name="embedding")(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(embedded)
    dense = keras.layers.Dense(6)(pooled)
    assert told(keras.Model(tokens, routed(dense, pooled)), TOKENS) == []


def test_an_embedding_that_only_gates_is_warned_about():
    tokens, x = keras.Input((6,), dtype="int32"), keras.Input((6,))
    embedded = keras.layers.Embedding(5, 4, name="embedding")(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(embedded)
    (text,) = told(keras.Model([tokens, x], routed(x, pooled)), [TOKENS, X])
    assert "'embedding'" in text


def test_a_model_without_gate_inputs_is_not_warned_about():
    layers = [keras.Input((6,)), keras.layers.Dense(6), TreeGatedDense(3)]
    assert told(keras.Sequential(layers)) == []
