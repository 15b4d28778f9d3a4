"""The transform to trees without the branches that are hardly visited."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core import checks
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.calibrate import batches
from keras_treegate.transforms.grow import selected_tree_layers
from keras_treegate.transforms.leaves import (
    chunks,
    read_settled_rows,
    row_bytes,
)
from keras_treegate.transforms.rebuild import check_model, rebuilt
from keras_treegate.transforms.state import (
    copy_variable,
    paired_parts,
    tree_like,
)
from keras_treegate.transforms.sublayers import LayerSelection

# The most visits of a leaf: sums of a few of them still fit into int64.
MAX_VISITS = 2**62


class PruneReport(NamedTuple):
    """Rows that `keras_treegate.prune` freed, and the change that it made.

    Args:
        rows: The rows of all levels before.
        rows_freed: How many of them are no longer used.
        largest_change: The largest change of an output on the data that was
            given; `None` without data.

    Example:

    >>> from keras_treegate.transforms import PruneReport
    >>> PruneReport(rows=30, rows_freed=12, largest_change=None).rows_freed
    12
    """

    rows: int
    rows_freed: int
    largest_change: float | None


def prune(
    model: keras.Model,
    min_visits: int = 1,
    visits: Mapping[str, np.ndarray] | None = None,
    layers: LayerSelection = None,
    data: object = None,
    return_report: bool = False,
) -> keras.Model | tuple[keras.Model, PruneReport]:
    """Merges subtrees that are hardly visited into their ancestors.

    A node with fewer than `min_visits` visits is dropped, with all below it;
    its examples use the path down to its parent from then on. Rows of dropped
    nodes become zero, and levels without any other are taken off, with their
    gates. `keras_treegate.fold` stores the leaves below a node that was pruned
    once; the table of a layer has room for as many leaves in each tree as the
    fullest one needs.

    Where nothing visited a subtree, nothing that was visited changes. Else the
    parent takes over the mean of the paths through the children that are
    dropped, weighted by visits,

        node += sum of visits * path below, over their leaves / sum of visits

    and the children that are kept are relieved of it: paths that are kept stay
    as they are, and merging a single leaf is exact as well.

    Weight decay that is owed is settled. The counts of a layer that counts its
    visits are kept. The new model is not compiled, and no optimizer state is
    carried over. The old one stays as it is.

    Args:
        model: A built model.
        min_visits: Integer of at least 1. Defaults to `1`.
        visits: For the name of each layer its visits, integers (G, 2^D);
            `None` for its own counts, `leaf_visits`. Defaults to `None`.
        layers: The tree layers to prune: `None` for all, a name or a list of
            names, or a function that is given a layer and returns a boolean.
            Defaults to `None`.
        data: Inputs, arrays as the model takes them, to report the largest
            change of an output on. Defaults to `None`.
        return_report: Boolean, whether to return a
            `keras_treegate.transforms.PruneReport` too. Defaults to `False`.

    Returns:
        The new model; with `return_report` the new model and the report.

    Raises:
        ValueError: For a model that is not built, has no such layer or cannot
            be cloned, and for visits that are missing, all zero or of another
            shape.

    Example:

    >>> import numpy as np, keras, keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     4, depth=2, num_trees=1, name="tree"
    ... )
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> pruned, report = keras_treegate.prune(
    ...     model, visits={"tree": np.array([[3, 5, 0, 0]])}, return_report=True
    ... )
    >>> report.rows, report.rows_freed
    (7, 3)
    """
    check_model(model)
    min_visits = checks.integer("min_visits", min_visits, 1, MAX_VISITS)
    return_report = checks.boolean("return_report", return_report)
    if visits is not None and not isinstance(visits, Mapping):
        raise ValueError(
            "`visits` must be a dictionary of visits by the names of layers, or"
            f" `None`. Received: visits={checks.shown(visits)} (of type "
            f"{type(visits).__name__}). Write e.g. `visits={{'tree': array}}`."
        )
    found = selected_tree_layers(model, layers)
    counts = [_visits(layer, visits) for layer in found]
    kept = [
        [level >= min_visits for level in _by_level(layer, count)]
        for layer, count in zip(found, counts, strict=True)
    ]
    makers = {
        id(layer): partial(_pruned, layer, count, keep)
        for layer, count, keep in zip(found, counts, kept, strict=True)
    }
    new = rebuilt(model, makers).model
    if not return_report:
        return new
    flags = np.concatenate([level for keep in kept for level in keep])
    change = None if data is None else _largest_change(model, new, data)
    return new, PruneReport(len(flags), int(np.sum(~flags)), change)


def _visits(
    layer: TreeGatedDense, visits: Mapping[str, np.ndarray] | None
) -> np.ndarray:
    """Returns the visits (G, 2^D) of the leaves of a layer, checked."""
    if visits is None:
        counts = layer.leaf_visits if layer.count_visits else None
    else:
        counts = visits.get(layer.name)
    if counts is None:
        raise ValueError(
            "`visits` must have counts for each layer that is pruned. Received:"
            f" none for {layer.name!r}. Pass `visits={{{layer.name!r}: array}}`"
            ", or choose `layers`."
        )
    counts = _integers(counts, layer.name)
    shape = (layer.num_trees, 2**layer.depth)
    if counts.shape != shape or np.any(counts < 0):
        raise ValueError(
            "`visits` must be counts of at least 0, of shape (num_trees, "
            f"2**depth). Received: for {layer.name!r} an array of shape "
            f"{counts.shape}, in place of {shape}, from "
            f"{counts.min(initial=0)} on. Count with `layer.leaf_codes`."
        )
    if not np.all(counts.sum(axis=1) > 0):
        raise ValueError(
            "`visits` must have visits of each tree. Received: a tree of "
            f"{layer.name!r} without any. Train the layer first, or count "
            "with `layer.leaf_codes`."
        )
    return counts


def _integers(counts: object, name: str) -> np.ndarray:
    """Returns counts as an array of int64; refuses anything else."""
    try:
        array = np.asarray(ops.convert_to_numpy(counts))
    except Exception:
        array = np.empty(0)
    if array.dtype.kind not in "iu" or array.max(initial=0) > MAX_VISITS:
        raise ValueError(
            "`visits` must be arrays of integers, of shape (num_trees, "
            f"2**depth). Received: for {name!r} a {type(counts).__name__} of "
            f"dtype {array.dtype}. Count with `layer.leaf_codes`, or round."
        )
    return array.astype("int64")


def _by_level(
    layer: keras.layers.Layer, visits: np.ndarray
) -> list[np.ndarray]:
    """Returns the visits (G * 2^l,) of the nodes of each level.

    Roots get the largest number, because they are always kept.
    """
    most = np.iinfo("int64").max
    roots = np.full(layer.num_trees, most)
    levels = [
        visits.reshape(layer.num_trees * 2**level, -1).sum(axis=1)
        for level in layer.levels[1:]
    ]
    return [roots, *levels]


def _pruned(
    layer: TreeGatedDense, visits: np.ndarray, kept: list[np.ndarray]
) -> TreeGatedDense:
    """Makes a layer of the nodes that are kept, built and with its weights."""
    depth = max(
        level
        for level, keep in zip(layer.levels, kept, strict=True)
        if np.any(keep)
    )
    num_trees = layer.nodes[0].shape[0]
    gate = layer.gate.with_depth(depth, np.random.default_rng())
    levels = layer.levels_at(depth)
    new = tree_like(layer, depth=depth, levels=levels, gate=gate)
    new.gate.take_over(layer.gate)
    for source, target in paired_parts(layer, new):
        if source.shape == target.shape:
            copy_variable(source, target)
    if layer.bias is not None and new.bias is not None:
        copy_variable(layer.bias, new.bias)
    if layer.count_visits:
        counts = layer.leaf_visits  # its own, also where others were given
        leaves = (num_trees, 2**depth, -1)
        new.visits.assign(counts.reshape(leaves).sum(axis=-1))
    # Avoids holding the rows of all trees in memory.
    size = 2**layer.depth * row_bytes(layer.nodes[0])
    for start, stop in chunks(num_trees, size):
        trees = slice(start, stop)
        _write_trees(layer, new, trees, visits, kept)
    return new


def _write_trees(
    layer: TreeGatedDense,
    new: TreeGatedDense,
    trees: slice,
    visits: np.ndarray,
    kept: list[np.ndarray],
) -> None:
    below: np.ndarray | float = 0.0  # each node's mean of the paths below it
    added: np.ndarray | float = 0.0  # to each node, for its dropped children
    depths = [0, *layer.levels]  # each after that of its parents
    for number in range(len(layer.levels) - 1, -1, -1):
        depth = layer.levels[number]
        ids = np.arange(trees.start << depth, trees.stop << depth)
        level = layer.tree_levels[number]
        rows = ops.convert_to_numpy(
            ops.cast(read_settled_rows(level, ids), _exact(layer))
        )
        keep = kept[number][ids]
        weights = visits.reshape(-1, 2 ** (layer.depth - depth))
        weights = weights[ids].sum(axis=1).astype(rows.dtype)
        paths = (rows + below) * (weights > 0)[:, None, None]
        rows = rows + added
        if number > 0:
            siblings = 2 ** (depth - depths[number])
            below, added, relief = _merged(paths, weights, keep, siblings)
            rows = rows - relief
        if depth <= new.depth:
            rows = rows * keep[:, None, None]
            backend.write_rows(
                new.nodes[number], int(ids[0]), ops.convert_to_tensor(rows)
            )


def _exact(layer: TreeGatedDense) -> str:
    return "float64" if layer.variable_dtype == "float64" else "float32"


def _merged(
    paths: np.ndarray, weights: np.ndarray, keep: np.ndarray, siblings: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merges the children (N, W, Q) of a level into their parents (R, W, Q).

    Returns:
        For each parent the mean of the paths below it, weighted by visits, and
        that of the paths through its dropped children, both (R, W, Q); and what
        each child is relieved of (N, W, Q).
    """
    families = paths.reshape(-1, siblings, *paths.shape[1:])
    weights = weights.reshape(-1, siblings, 1, 1)
    keep = keep.reshape(-1, siblings, 1, 1)

    def mean(weights: np.ndarray) -> np.ndarray:
        # Divides the weights, so that the mean of a single path is exact.
        total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
        return np.sum(families * (weights / total), axis=1)

    dropped = mean(weights * ~keep)
    relief = keep * dropped[:, None]
    return mean(weights), dropped, relief.reshape(paths.shape)


def _largest_change(
    model: keras.Model, new: keras.Model, data: object
) -> float:
    largest = 0.0
    for batch in batches(data):
        pairs = zip(
            keras.tree.flatten(model(batch, training=False)),
            keras.tree.flatten(new(batch, training=False)),
            strict=True,
        )
        for before, after in pairs:
            change = ops.cast(after, "float32") - ops.cast(before, "float32")
            change = ops.convert_to_numpy(ops.max(ops.abs(change)))
            largest = max(largest, float(change))
    return largest
