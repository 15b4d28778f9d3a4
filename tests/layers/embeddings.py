"""Embeddings to compare with, and ids as a text has them."""

import keras
import numpy as np
from keras import ops

ROWS, UNITS, BATCH, PLACES = 60, 3, 4, 2


class OneHotEmbedding(keras.layers.Layer):
    """An embedding whose gradient is dense on every backend: a product.

    Keras's own is not, under TensorFlow: its gradient has repeated ids there,
    which Keras's optimizers do not add up before they square them.
    """

    def __init__(self, input_dim, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.input_dim, self.output_dim = input_dim, output_dim

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer="uniform",
        )

    def call(self, inputs, reverse=False):
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.embeddings))
        one_hot = ops.one_hot(inputs, self.input_dim, dtype=self.compute_dtype)
        return ops.matmul(one_hot, self.embeddings)

    def compute_output_spec(self, inputs, reverse=False):
        last = self.input_dim if reverse else self.output_dim
        shape = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*shape, last), dtype=self.compute_dtype)


def table():
    """Returns the values (N, Q) that every layer starts with."""
    return np.random.default_rng(7).normal(size=(ROWS, UNITS)).astype("float32")


def zipf_ids(examples, seed=0):
    """Draws ids (examples, places): few are frequent, most are rare."""
    random = np.random.default_rng(seed)
    ids = random.zipf(1.4, size=(examples, PLACES)) - 1
    return np.minimum(ids, ROWS - 1).astype("int32")


def targets(examples, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(size=(examples, PLACES, UNITS)).astype("float32")


def make_model(kind, optimizer, **options):
    """Returns a model of one embedding, compiled; its output is looked up."""
    layer = kind(ROWS, UNITS, name="embedding")
    model = keras.Sequential([keras.Input((PLACES,), dtype="int32"), layer])
    layer.embeddings.assign(table())
    model.compile(optimizer, "mse", **options)
    return model


def rows_of(model):
    return model.get_layer("embedding").embeddings.numpy()
