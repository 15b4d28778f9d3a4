"""Trained models whose new trees read one of their own tensors."""

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.gates import HashGate, SignGate
from keras_treegate.layers import TokenWindow, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests.transforms import models

TEXTS = np.random.default_rng(2).integers(0, 11, (8, 7))


def text_model():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(11, 6, name="table")(tokens)
    for number in range(2):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(12, activation="relu", name=f"up_{number}")(y)
        y = keras.layers.Dense(6, name=f"down_{number}")(y)
        x = keras.layers.Dropout(0.5)(x + y)
    model = keras.Model(tokens, keras.layers.Dense(11, name="head")(x))
    models.randomize(model)
    return model


def upcycled(model, **kwargs):
    arguments = {
        "depth": 4,
        "num_trees": 3,
        "levels": "ends",
        "layers": ["down_0", "down_1"],
        "gate": HashGate((1, 2), seed=3),
        "gate_inputs": TokenWindow(2)(model.input),
    }
    return keras_treegate.upcycle(model, **{**arguments, **kwargs})


def test_trees_that_read_tokens_give_the_same_outputs_and_train(tmp_path):
    model = text_model()
    before = models.values(model)
    new = upcycled(model)
    models.assert_same_outputs(model, new, TEXTS)
    models.assert_nothing_shared(model, new)
    first, second = new.get_layer("down_0"), new.get_layer("down_1")
    assert isinstance(first, TreeGatedDense)
    assert first.gate.seed != second.gate.seed
    assert type(new.get_layer("head")) is keras.layers.Dense
    new.compile(
        StepAwareAdam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = new.fit(TEXTS, TEXTS, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.any(first.nodes[1].numpy())
    assert first.leaf_visits.sum() == 8 * TEXTS.size * 3
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(new, loaded, TEXTS)
    models.assert_same_outputs(new, keras_treegate.fold(new), TEXTS)
    models.assert_same_outputs(new, keras_treegate.grow(new, 5), TEXTS)
    models.assert_unchanged(model, before)


def test_gates_may_read_tensors_inside_of_the_model():
    # A layer on the way to the gates is called once, for both.
    model = text_model()
    (embedded,) = (model.get_layer("table").output,)
    new = upcycled(
        model,
        gate=SignGate(threshold="running_mean", seed=1),
        gate_inputs=embedded,
        calibrate=TEXTS,
    )
    models.assert_same_outputs(model, new, TEXTS)
    table = new.get_layer("table")
    assert len(table._inbound_nodes) == 1
    means = new.get_layer("down_0").gate.moving_mean.numpy()
    assert np.any(means)


def test_inputs_by_name_keep_their_names():
    a = keras.Input((5,), name="a")
    tokens = keras.Input((3,), dtype="int32", name="tokens")
    dense = keras.layers.Dense(4, name="mine")
    # Keras 3.12 makes no model of an input that no output needs.
    outputs = {"y": dense(a), "tokens": keras.layers.Flatten()(tokens)}
    model = keras.Model({"a": a, "tokens": tokens}, outputs)
    new = keras_treegate.upcycle(
        model, depth=2, gate=HashGate(3), gate_inputs=tokens
    )
    x = {"a": np.ones((2, 5), "float32"), "tokens": np.ones((2, 3), "int32")}
    models.assert_same_outputs(model, new, x)


def refused(message, make=text_model, **kwargs):
    model = make()
    with pytest.raises(ValueError, match=message):
        upcycled(model, **kwargs)


def test_what_is_no_gate_or_fits_none_is_refused():
    refused("`gate` must be `None` or a `keras_treegate", gate="hash")
    refused("`gate_inputs` must be given for a HashGate", gate_inputs=None)
    refused("must be left out where a `gate` is given", seed=3)
    refused("must be left out where a `gate` is given", gate_threshold="zero")
    refused("does not fit its gate: .*as many tokens", gate=HashGate(3))
    refused("`calibrate` must be left out", calibrate=TEXTS)
    other = keras.Input((7, 2), dtype="int32")
    refused("`gate_inputs` must be one symbolic tensor", gate_inputs=other)
    refused("`gate_inputs` must", gate_inputs=np.ones((8, 7, 2), "int32"))


def test_models_that_are_not_functional_are_refused():
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="must be for a functional model"):
        keras_treegate.upcycle(
            model, depth=2, gate=SignGate(), gate_inputs=model.inputs[0]
        )


def test_layers_of_a_model_inside_are_refused():
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    tokens = keras.Input((3,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Embedding(4, 2)(tokens))
    model = keras.Model(tokens, inner(x))
    with pytest.raises(ValueError, match="must be for layers of the model"):
        keras_treegate.upcycle(
            model, depth=2, gate=HashGate(), gate_inputs=tokens
        )
