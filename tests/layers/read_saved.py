"""Reads what another backend saved: `python -m tests.layers.read_saved DIR`."""

import pathlib
import sys

import keras
import numpy as np

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense


def build_model(seed):
    """Two tree layers with every kind of state that a file must carry."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            TreeGatedDense(
                4,
                depth=3,
                num_trees=2,
                gate=SignGate(threshold="running_mean", seed=seed),
                activation="relu",
            ),
            TreeGatedDense(3, depth=2, num_trees=None, seed=seed),
        ]
    )


def main(folder):
    x = np.load(folder / "inputs.npy")
    model = keras.models.load_model(folder / "model.keras")
    rebuilt = build_model(seed=2)
    rebuilt.load_weights(folder / "model.weights.h5")
    backend = keras.backend.backend()
    y = model.predict(x, verbose=0)
    np.save(folder / f"{backend}-model.npy", y)
    y = rebuilt.predict(x, verbose=0)
    np.save(folder / f"{backend}-weights.npy", y)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
