"""Reads embeddings that another backend saved, from a folder."""

import pathlib
import sys

import keras
import numpy as np

from keras_treegate.layers import SparseEmbedding
from tests.layers.embeddings import PLACES, ROWS, UNITS, zipf_ids


class Words(keras.layers.Layer):
    """Holds an embedding in an attribute, by whose name a file knows it."""

    def __init__(self, kind, rows=ROWS, **kwargs):
        super().__init__(**kwargs)
        self.words = kind(rows, UNITS)

    def build(self, input_shape):
        self.words.build(input_shape)

    def call(self, ids):
        return self.words(ids)


def model_of(kind, rows=ROWS):
    return keras.Sequential(
        [keras.Input((PLACES,), dtype="int32"), Words(kind, rows)]
    )


def outputs_of_files(folder):
    """Returns outputs of all forms that embeddings were saved in, by name."""
    found = {"model": keras.models.load_model(folder / "model.keras")}
    for name, kind in (
        ("sparse", SparseEmbedding),
        ("dense", keras.layers.Embedding),
    ):
        for weights in ("sparse", "dense"):
            model = model_of(kind)
            model.load_weights(folder / f"{weights}.weights.h5")
            found[f"{weights} into {name}"] = model
    ids = zipf_ids(50)
    return {name: m.predict(ids, verbose=0) for name, m in found.items()}


def main(folder):
    backend = keras.backend.backend()
    np.savez(folder / f"{backend}.npz", **outputs_of_files(folder))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
