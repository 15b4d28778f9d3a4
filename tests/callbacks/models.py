"""Models and counts that the tests of callbacks share."""

import keras
import numpy as np

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense

BATCH, EXAMPLES, WIDTH = 8, 44, 6


def data(seed=0, examples=EXAMPLES):
    random = np.random.default_rng(seed)
    x = random.normal(size=(examples, WIDTH)).astype("float32")
    return x, np.ones((examples, 3), dtype="float32")


def tree(name, depth=2, threshold="zero", **kwargs):
    gate = SignGate(threshold=threshold, seed=3)
    return TreeGatedDense(
        3, depth=depth, num_trees=2, gate=gate, name=name, **kwargs
    )


def nested_model(optimizer="sgd", **compile_arguments):
    """Returns a model of two layers of one name, one nested two models deep."""
    inner = keras.Sequential(
        [keras.Input((3,)), tree("same", depth=3)], name="inner"
    )
    middle = keras.Sequential([keras.Input((3,)), inner], name="middle")
    inputs = keras.Input((WIDTH,))
    hidden = tree("same")(inputs)
    model = keras.Model(inputs, middle(hidden))
    model.compile(optimizer, "mse", **compile_arguments)
    return model


def model_of(*layers, width=WIDTH, **compile_arguments):
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile("sgd", "mse", **compile_arguments)
    return model


def visits_of(layer, x):
    """Counts the leaf codes of inputs with NumPy, (G, L)."""
    codes = keras.ops.convert_to_numpy(layer.leaf_codes(x))
    leaves = 2**layer.depth
    return np.stack(
        [np.bincount(codes[:, g], minlength=leaves) for g in range(2)]
    )


def entropy_of(visits):
    """Returns the gate entropy by its formula, leaf by leaf."""
    trees, leaves = visits.shape
    total = 0.0
    for g in range(trees):
        for count in visits[g]:
            share = count / visits[g].sum()
            total -= share * np.log2(share) if count else 0.0
    return total / trees / np.log2(leaves)
