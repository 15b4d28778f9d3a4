"""Data that routes as a test wants it to, and models for it."""

import keras
import numpy as np

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense


def zipf_codes(random, examples, trees, depth, power=2.0):
    """Draws leaf codes (examples, G), the k-th with a weight `1 / k^power`."""
    weights = 1 / np.arange(1, 2**depth + 1) ** power
    weights /= weights.sum()
    return np.stack(
        [
            random.permutation(2**depth)[
                random.choice(2**depth, size=examples, p=weights)
            ]
            for _ in range(trees)
        ],
        axis=1,
    )


def inputs_for(random, codes, depth):
    """Makes inputs (B, G * D) that `make_layer` routes to codes (B, G)."""
    places = 2 ** np.arange(depth)[::-1]
    bits = (codes[..., None] // places) % 2  # (B, G, D)
    sizes = random.uniform(0.2, 1.0, size=bits.shape)
    x = np.where(bits == 1, sizes, -sizes)
    return x.reshape(len(codes), -1).astype("float32")


def make_layer(units, trees, depth, row_levels="auto", seed=0, **kwargs):
    """Builds a layer for `inputs_for`, with nodes drawn from a seed."""
    gate = SignGate(units=np.arange(trees * depth).reshape(trees, depth))
    layer = TreeGatedDense(
        units, depth=depth, num_trees=trees, gate=gate, **kwargs
    )
    layer.row_levels = row_levels
    layer.build((None, trees * depth))
    randomize(layer, seed)
    return layer


def randomize(layer, seed=0):
    random = np.random.default_rng(seed)
    for nodes in layer.nodes:
        nodes.assign(random.normal(size=nodes.shape))


def make_model(layer, optimizer, **compile_arguments):
    inputs = keras.Input((layer.input_spec.axes[-1],))
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer, "mse", **compile_arguments)
    return model


def needed_rows(codes, level, depth):
    """Returns the distinct rows of a level that leaf codes (B, G) need."""
    trees = np.arange(codes.shape[1])
    return np.unique(trees * 2**level + (codes >> (depth - level)))
