"""Goes on with training that another backend began.

    python -m tests.optimizers.continue_training FOLDER

Writes the outputs and all state after the same steps as `go_on`.
"""

import pathlib
import sys

import keras
import numpy as np

from keras_treegate.layers import TreeGatedDense
from tests.optimizers.routing import inputs_for, zipf_codes
from tests.optimizers.rules import DECAY, RULES, cosine

TREES, DEPTH, UNITS, BATCH = 2, 1, 2, 3
# A few steps run fastest without compiling, but under JAX.
EAGERLY = keras.backend.backend() != "jax"
RULE_NAMES = ("SGD with Nesterov", "Adam", "Adagrad, rowwise")


def data():
    """Draws batches, the first half of which is for the first backend."""
    random = np.random.default_rng(0)
    codes = zipf_codes(random, 20 * BATCH, TREES, DEPTH, power=3.0)
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), UNITS)).astype("float32")
    return list(zip(np.split(x, 20), np.split(y, 20), strict=True))


def begin(rule):
    """Trains a model for half of the steps, so that it owes decay."""
    layer = TreeGatedDense(UNITS, DEPTH, num_trees=TREES, seed=1, name="trees")
    model = keras.Sequential(
        [
            keras.Input((TREES * DEPTH,)),
            layer,
            keras.layers.Dense(UNITS, name="head"),
        ]
    )
    layer.row_levels = "all"
    random = np.random.default_rng(2)
    for nodes in layer.nodes:
        nodes.assign(random.normal(size=nodes.shape))
    optimizer = RULES[rule].make(learning_rate=cosine(40), weight_decay=DECAY)
    model.compile(optimizer, "mse", run_eagerly=EAGERLY)
    train(model, data()[:10])
    return model


def train(model, batches):
    for x, y in batches:
        model.train_on_batch(x, y)


def go_on(model):
    """Trains the other half; what came of it, by name."""
    # `jit_compile` comes from the file, as the other backend decided it.
    model.run_eagerly, model.jit_compile = EAGERLY, not EAGERLY
    before = model.predict(data()[0][0], verbose=0)
    model.layers[0].row_levels = "all"
    train(model, data()[10:])
    # By name within a layer and by number within the optimizer: paths differ
    # between a model and what is loaded of it, the order between backends.
    state = {
        f"{layer.name}/{variable.name}": variable.numpy()
        for layer in model.layers
        for variable in layer.variables
    }
    for number, variable in enumerate(model.optimizer.variables):
        state[f"optimizer/{number}"] = variable.numpy()
    after = model.predict(data()[0][0], verbose=0)
    return {"before": before, "after": after, **state}


def main(folder):
    for number in range(len(RULE_NAMES)):
        model = keras.models.load_model(folder / f"{number}.keras")
        backend = keras.backend.backend()
        np.savez(folder / f"{number}-{backend}.npz", **go_on(model))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
