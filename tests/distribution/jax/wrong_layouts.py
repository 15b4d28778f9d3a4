"""Builds layers under layouts that do not fit, and prints the errors.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.wrong_layouts`.
"""

import json

import keras

from keras_treegate.layers import SparseEmbedding, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam

CASES = {
    "nodes": (".*nodes.*", (None, None, "model")),
    "stamps": (".*stamps.*", ("model", None, None)),
    "visits": (".*visits.*", ("model", None)),
    "embeddings": (".*embeddings.*", ("model", None)),
    "last_step": (".*last_step", ("model", None)),
    "kernel": (".*kernel", ("model", None)),
}


def build(case):
    if case == "embeddings":
        SparseEmbedding(9, 4).build()
    elif case == "kernel":
        keras.layers.Dense(3).build((None, 9))
    elif case == "last_step":
        layer = TreeGatedDense(4, depth=2, seed=0)
        layer.build((None, 8))
        StepAwareAdam().build(layer.trainable_variables)
    else:
        TreeGatedDense(3, depth=2, num_trees=1, seed=0).build((None, 8))


def error_of(case):
    distribution = keras.distribution
    devices = distribution.list_devices()
    mesh = distribution.DeviceMesh((1, 4), ("batch", "model"), devices)
    layouts = distribution.LayoutMap(mesh)
    key, axes = CASES[case]
    layouts[key] = axes
    chosen = distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )
    with chosen.scope():
        try:
            build(case)
        except (IndexError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps({case: error_of(case) for case in CASES}))
