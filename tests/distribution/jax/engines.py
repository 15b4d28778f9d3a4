"""Engines of several devices, and a model with tables of each kind for them."""

import keras
import numpy as np

from keras_treegate.distribution import layout_map
from keras_treegate.gates import HashGate
from keras_treegate.layers import SparseEmbedding, TreeGatedDense

ENGINES = "data", "rows", "units"
UNITS, WIDTH, VOCABULARY = 8, 16, 2**10


def use(engine):
    """Sets the distribution: "one" device, or one of the engines."""
    distribution = keras.distribution
    devices = distribution.list_devices()
    chosen = None
    if engine == "data":
        chosen = distribution.DataParallel(devices=devices)
    elif engine != "one":
        axes = "batch", "model"
        rest = len(devices) // 2
        mesh = distribution.DeviceMesh((rest, 2), axes, devices)
        if engine == "nodes":  # as users write it themselves
            layouts = distribution.LayoutMap(mesh)
            layouts[".*nodes.*"] = None, None, "model"
        else:
            layouts = layout_map(mesh, shard=engine, min_rows=32)
        chosen = distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch"
        )
    distribution.set_distribution(chosen)


def build_model(depth, levels="all", vocabulary=VOCABULARY):
    """Returns a model of a sparse embedding, a sign gate and a hash gate."""
    x = keras.Input((WIDTH,), name="x")
    tokens = keras.Input((2,), dtype="int32", name="tokens")
    embedded = keras.layers.Flatten()(
        SparseEmbedding(vocabulary, UNITS, name="sparse_embedding")(tokens)
    )
    features = keras.layers.Concatenate()([x, embedded])
    signs = TreeGatedDense(
        UNITS, depth=depth, num_trees=2, levels=levels, seed=1, name="signs"
    )
    hashes = TreeGatedDense(
        UNITS,
        depth=depth,
        num_trees=2,
        levels=levels,
        gate=HashGate(orders=(1, 2), seed=2),
        name="hashes",
    )
    y = hashes(signs(features), gate_inputs=tokens)
    return keras.Model([x, tokens], y)


def batches(count, size, vocabulary=VOCABULARY):
    """Yields batches ((x, tokens), y); most tokens are rare."""
    random = np.random.default_rng(0)
    for _ in range(count):
        x = random.normal(size=(size, WIDTH)).astype("float32")
        tokens = random.zipf(1.3, size=(size, 2)) % vocabulary
        y = random.normal(size=(size, UNITS)).astype("float32")
        yield [x, tokens.astype("int32")], y


def tables_of(model):
    """Returns the tables of rows of a model."""
    found = []
    for layer in model.layers:
        if isinstance(layer, SparseEmbedding):
            found.append(layer.table)
        elif isinstance(layer, TreeGatedDense):
            found.extend(layer.tree_levels)
    return found
