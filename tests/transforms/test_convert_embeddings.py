"""Models with sparse embeddings: the same outputs, weights kept."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_treegate
from keras_treegate.layers import SparseEmbedding
from keras_treegate.optimizers import StepAwareSGD
from keras_treegate.transforms.sublayers import descendants
from tests.transforms import models

ROWS, UNITS = 30, 4
IDS = np.random.default_rng(0).integers(0, ROWS, (6, 5)).astype("int32")


def text_classifier():
    """Makes a model with a mask that a recurrent layer reads, of float ids."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Embedding(ROWS, UNITS, mask_zero=True, name="words"),
            layers.GRU(3),
            layers.Dense(1),
        ]
    )
    return model, IDS


def shared():
    """Makes a model of an embedding used twice and one in a nested model."""
    ids = keras.Input((5,), dtype="int32")
    words = layers.Embedding(ROWS, UNITS, name="words")
    inner = keras.Sequential(
        [ids, layers.Embedding(ROWS, UNITS, name="inner"), layers.ReLU()]
    )
    outputs = words(ids) * words((ids + 1) % ROWS) + inner(ids)
    return keras.Model(ids, outputs), IDS


@keras.saving.register_keras_serializable("tests")
class Encoder(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(ROWS, UNITS)

    def build(self, input_shape):
        self.words.build(input_shape)

    def call(self, ids):
        return self.words(ids)


def inside_of_a_layer():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), Encoder()])
    return model, IDS


STRUCTURES = [text_classifier, shared, inside_of_a_layer]


def of_kind(model, kind):
    return [layer for layer in descendants(model) if type(layer) is kind]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_outputs_stay_and_nothing_is_shared(structure):
    model, ids = structure()
    models.randomize(model)
    before, count = models.values(model), len(of_kind(model, layers.Embedding))
    new = keras_treegate.convert_embeddings(model)
    assert len(of_kind(new, SparseEmbedding)) == count > 0
    assert of_kind(new, layers.Embedding) == []
    models.assert_same_outputs(model, new, ids)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, new)


def test_what_an_embedding_is_told_is_kept():
    words = layers.Embedding(
        ROWS, UNITS, "zeros", mask_zero=True, name="mine", dtype="mixed_float16"
    )
    model = keras.Sequential([keras.Input((5,), dtype="int32"), words])
    words.trainable = False
    (new,) = keras_treegate.convert_embeddings(model).layers
    assert (new.name, new.mask_zero, new.trainable) == ("mine", True, False)
    assert new.dtype_policy.name == "mixed_float16"
    assert isinstance(new.embeddings_initializer, keras.initializers.Zeros)


def test_the_new_model_trains_and_is_saved(tmp_path):
    model, ids = text_classifier()
    new = keras_treegate.convert_embeddings(model)
    assert not new.compiled
    new.compile(
        StepAwareSGD(0.1, weight_decay=0.1),
        "mse",
        run_eagerly=keras.backend.backend() != "jax",
    )
    before = new.get_layer("words").embeddings.numpy()
    new.train_on_batch(ids, np.ones((6, 1)))
    assert np.any(new.get_layer("words").embeddings.numpy() != before)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(new, loaded, ids)


def test_other_transforms_keep_what_sparse_embeddings_hold():
    model, ids = text_classifier()
    model = keras_treegate.convert_embeddings(model)
    table = model.get_layer("words").table
    table.clock.assign([-0.5, 0.0])
    table.stamps.assign(np.random.default_rng(0).normal(size=(ROWS, 2)) * 0.1)
    wider = keras_treegate.upcycle(model, depth=1, num_trees=1)
    models.assert_same_outputs(model, wider, ids)


class OwnModel(keras.Model):
    """Its constructor makes its layers, and so does that of its clone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(ROWS, UNITS)
        self.hidden = layers.Dense(UNITS, name="hidden")

    def build(self, input_shape):
        self.words.build(input_shape)
        self.hidden.build((*input_shape, UNITS))

    def call(self, ids):
        return self.hidden(self.words(ids))

    def get_config(self):
        return {}


OTHERS = {
    "upcycle": lambda model: keras_treegate.upcycle(model, 1),
    "grow": lambda model: keras_treegate.grow(model, 3),
    "prune": lambda model: keras_treegate.prune(
        model, visits={"hidden": np.ones((UNITS, 4), "int64")}
    ),
    "fold": keras_treegate.fold,
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_make_their_layers_are_transformed_further(name):
    model = OwnModel()
    model(IDS)
    models.randomize(model)
    new = model if name == "upcycle" else keras_treegate.upcycle(model, 2)
    new = OTHERS[name](keras_treegate.convert_embeddings(new))
    assert len(of_kind(new, SparseEmbedding)) == 1
    models.assert_same_outputs(model, new, IDS)


def one(layer):
    return keras.Sequential([keras.Input((5,), dtype="int32"), layer])


def with_lora():
    model = one(layers.Embedding(ROWS, UNITS, name="mine"))
    model.layers[0].enable_lora(1)
    return model


REFUSED = {
    "has an `embeddings_constraint`": lambda: one(
        layers.Embedding(
            ROWS, UNITS, embeddings_constraint="non_neg", name="mine"
        )
    ),
    "is a ReversibleEmbedding, and not `keras.layers.Embedding`": lambda: one(
        layers.ReversibleEmbedding(ROWS, UNITS, name="mine")
    ),
    "has LoRA weights": with_lora,
    "is in a `SpectralNormalization`": lambda: one(
        layers.SpectralNormalization(layers.Embedding(ROWS, UNITS, name="mine"))
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("chosen", [None, "mine"])
def test_what_cannot_be_converted_is_named(reason, chosen):
    with pytest.raises(ValueError, match=f"'mine' {reason}"):
        keras_treegate.convert_embeddings(REFUSED[reason](), chosen)


def test_a_table_beyond_the_bound_is_not_converted(monkeypatch):
    monkeypatch.setenv("KERAS_TREEGATE_MAX_LAYER_GIB", "1e-8")
    model, _ = text_classifier()
    with pytest.raises(ValueError, match="'words' would be too large"):
        keras_treegate.convert_embeddings(model)


def test_those_that_are_left_out_are_warned_of():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(
                ROWS, UNITS, embeddings_regularizer="l2", name="a"
            ),
        ]
    )
    with pytest.warns(UserWarning, match="`embeddings_regularizer` of 'a' is"):
        keras_treegate.convert_embeddings(model)


def test_a_model_without_embeddings_is_refused():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="Received: no Embedding layer"):
        keras_treegate.convert_embeddings(model)
