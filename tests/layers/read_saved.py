"""Reads what another backend saved: `python -m tests.layers.read_saved DIR`."""

import pathlib
import sys

import keras
import numpy as np

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense


def build_model(seed):
    """Makes a model of two tree layers with all state that a file carries."""
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
    given = build_model(seed=3)
    with np.load(folder / "weights.npz") as weights:
        given.set_weights([weights[name] for name in weights.files])
    legacy = keras.models.load_model(folder / "model.h5", compile=False)
    rewritten = build_model(seed=4)
    rewritten.load_weights(folder / "model.h5")
    read = {
        "model": model,
        "weights": rebuilt,
        "set_weights": given,
        "legacy": legacy,
        "legacy weights": rewritten,
    }
    backend = keras.backend.backend()
    for name, one in read.items():
        y = one.predict(x, verbose=0)
        np.save(folder / f"{backend}-{name}.npy", y)
    order = [(w.name, tuple(w.shape)) for w in given.weights]
    (folder / f"{backend}-order.txt").write_text(repr(order))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
