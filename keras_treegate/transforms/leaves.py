"""The leaves of a layer's trees: their sums, and which of them differ.

The key of leaf c of tree g is `g * 2^D + c`.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks, decay
from keras_treegate.layers import TreeGatedDense
from keras_treegate.trees.level import TreeLevel
from keras_treegate.types import Tensor, Variable

# The bytes of the rows that are worked on at a time.
CHUNK_BYTES = 2**22


def chunks(rows: int, row_bytes: int) -> list[tuple[int, int]]:
    """Returns starts and stops that cover these rows, all of the same length.

    The last chunk may overlap the one before, so that functions that are
    compiled for a shape are compiled once.
    """
    size = min(rows, max(1, CHUNK_BYTES // row_bytes))
    starts = [*range(0, rows - size, size), rows - size]
    return [(start, start + size) for start in starts]


def read_settled_rows(level: TreeLevel, ids: np.ndarray) -> Tensor:
    """Reads rows (R, W, Q) of a level, with the decay that they owe."""
    ids = ops.convert_to_tensor(ids, dtype="int32")
    owed = decay.owed(
        ops.convert_to_tensor(level.clock.value),
        backend.read_rows(level.stamps, ids),
    )
    return decay.decayed(backend.read_rows(level.nodes, ids), owed)


def sums_of_leaves(layer: TreeGatedDense, keys: np.ndarray) -> Tensor:
    """Returns the sums (R, W, Q) of the paths to the leaves of these keys."""
    total = None
    for depth, level in zip(layer.levels, layer.tree_levels, strict=True):
        rows = read_settled_rows(level, keys >> (layer.depth - depth))
        total = rows if total is None else total + rows
    return total


class StoredLeaves(NamedTuple):
    """The leaves to store, one for each set of equal ones.

    keys: (G, U), the key of each stored leaf; trees with fewer repeat one.
    slots: (G, 2^D) int32, counted over all trees, the stored leaf of each leaf.
    """

    keys: np.ndarray
    slots: np.ndarray


def stored_leaves(layer: keras.layers.Layer) -> StoredLeaves:
    """Finds the leaves to store.

    Leaves are equal where all nodes in which their paths differ are zero.
    """
    num_trees, depth = layer.num_trees, layer.depth
    owner = np.arange(num_trees)  # the last node of a path that is not zero
    for number, level in enumerate(layer.tree_levels[1:], 1):
        rows = num_trees * 2 ** layer.levels[number]
        nodes = num_trees * 2**layer.depth * number + np.arange(rows)
        parents = np.repeat(owner, rows // len(owner))
        owner = np.where(nonzero_rows(level), nodes, parents)
    keys, slots = [], []
    for tree in owner.reshape(num_trees, -1):
        _, first, inverse = np.unique(
            tree, return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        keys.append(first[order])
        slots.append(np.argsort(order)[inverse])
    most = max(map(len, keys))
    if most == 2**depth:  # nothing is saved, so that leaves keep their order
        keys = slots = [np.arange(most)] * num_trees
    trees = np.arange(num_trees)[:, None]
    return StoredLeaves(
        np.stack([np.resize(tree, most) for tree in keys]) + trees * 2**depth,
        np.stack(slots).astype("int32") + (trees * most).astype("int32"),
    )


def nonzero_rows(level: TreeLevel) -> np.ndarray:
    """Returns for each row (N,) of a level whether it is not all zero."""
    found = np.zeros(level.nodes.shape[0], bool)
    for start, stop in chunks(len(found), row_bytes(level.nodes)):
        ids = ops.arange(start, stop, dtype="int32")
        rows = backend.read_rows(level.nodes, ids)
        # One axis, because Keras 3.12 cannot reduce two under PyTorch.
        flat = ops.reshape(rows != 0, (stop - start, -1))
        found[start:stop] = ops.convert_to_numpy(ops.any(flat, axis=1))
    return found


def row_bytes(variable: Variable) -> int:
    """Returns the bytes of a row (W, Q), in the precision computed with."""
    _, width, units = variable.shape
    return width * units * max(4, checks.itemsize(variable.dtype))
