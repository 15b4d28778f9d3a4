"""Steps of an optimizer with given gradients, without a model."""

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.layers import TreeGatedDense
from keras_treegate.tables import row_table

# PyTorch indexes with int64, which JAX does not have by default.
INDEX = "int64" if keras.backend.backend() == "torch" else "int32"


def make_level(values, name):
    """Makes a level of nodes (R, W, Q) with these values, in its own layer."""
    rows, width, units = values.shape
    layer = TreeGatedDense(
        units, depth=0, num_trees=rows, use_bias=False, name=name
    )
    layer.build((None, rows * width))
    level = layer.tree_levels[0]
    level.nodes.assign(values)
    level.layer = layer  # keeps the layer alive
    return level


def touched_and_spare(gradient, num_ids):
    """Returns ascending ids: rows of a gradient that are not 0, and others."""
    touched = np.flatnonzero(np.any(gradient != 0, axis=(1, 2)))
    others = np.setdiff1d(np.arange(len(gradient)), touched)
    return np.sort(np.concatenate([touched, others[: num_ids - len(touched)]]))


def as_rows(gradient, num_ids):
    """Returns a gradient (R, W, Q) as `num_ids` of its rows."""
    ids = touched_and_spare(gradient, num_ids)
    return backend.RowGradient(
        ops.convert_to_tensor(ids, dtype=INDEX),
        ops.convert_to_tensor(gradient[ids], dtype="float32"),
        len(gradient),
    )


def apply(optimizer, gradients):
    """Makes one step.

    Args:
        optimizer: A Keras optimizer.
        gradients: Pairs of a variable and its gradient, an array or a
            `RowGradient`.
    """
    pairs = []
    for variable, gradient in gradients:
        if isinstance(gradient, np.ndarray):
            gradient = ops.convert_to_tensor(gradient, dtype="float32")
        pairs.append((gradient, variable))
        level = getattr(variable, "row_table", None)
        if level is not None and level.clock.trainable:
            for state in (level.clock, level.stamps):
                pairs.append((ops.zeros_like(state.value), state))
    with keras.name_scope("feeding"):
        optimizer.apply(*zip(*pairs, strict=True))


def slots_of(optimizer, variable):
    """Returns an optimizer's own variables for a variable, as values by name.

    Slots of rows have the name of the table's clock.
    """
    table = row_table.of(variable)
    owners = [variable] if table is None else [variable, table.clock]
    prefixes = [owner.path.replace("/", "_") + "_" for owner in owners]
    return {
        slot.name.removeprefix(prefix): slot.numpy()
        for slot in optimizer.variables
        for prefix in prefixes
        if slot.name.startswith(prefix)
    }
