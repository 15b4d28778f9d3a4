"""Sizes of a layer, checked before anything is allocated."""

import itertools
import math
import operator
import os
from collections.abc import Iterable

from keras_treegate.core import checks
from keras_treegate.core.tree_shape import TreeShape

MAX_ROWS = 2**31
DEFAULT_MAX_LAYER_GIB = 64.0
MAX_LAYER_GIB_VARIABLE = "KERAS_TREEGATE_MAX_LAYER_GIB"

# The names of sets of levels that store nodes.
LEVELS = ("all", "ends")


def max_layer_bytes() -> int:
    """Returns the most bytes that the nodes of one layer may take."""
    text = os.environ.get(MAX_LAYER_GIB_VARIABLE, str(DEFAULT_MAX_LAYER_GIB))
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not 0 < gib < math.inf:
        raise ValueError(
            f"The environment variable `{MAX_LAYER_GIB_VARIABLE}` must be a "
            f"positive number of GiB. Received: {text!r}. Unset it to allow "
            f"{DEFAULT_MAX_LAYER_GIB:g} GiB for each layer."
        )
    return int(gib * 2**30)


def check_tree_size(
    num_trees: int,
    levels: tuple[int, ...],
    width: int,
    units: int,
    itemsize: int,
) -> None:
    """Refuses trees of too many rows or too many bytes.

    At construction, where `num_trees` or `width` may not be known yet, 1 stands
    for them: what is refused then would be refused for any input.
    """
    _level_size(num_trees, levels[-1])
    size = num_trees * sum(2**level for level in levels)
    size *= width * units * itemsize
    _memory(size, "nodes", num_trees, levels[-1], width, units)


def check_tree_shape(trees: TreeShape, itemsize: int) -> None:
    """Refuses the trees of a layer as `check_tree_size` does."""
    sizes = trees.num_trees, trees.levels, trees.width, trees.units
    check_tree_size(*sizes, itemsize)


def check_table_size(
    num_trees: int,
    depth: int,
    width: int,
    units: int,
    dtype: str,
    stored_leaves: int | None,
) -> None:
    """Refuses folded trees of too many rows or too many bytes."""
    _level_size(num_trees, depth)
    leaves = num_trees * 2**depth
    rows = leaves if stored_leaves is None else num_trees * stored_leaves
    size = rows * width * units * checks.itemsize(dtype)
    if dtype == "int8":
        size += rows * width * 4  # the scale
    if stored_leaves is not None:
        size += leaves * 4  # the slots
    _memory(size, "a table of leaves", num_trees, depth, width, units)


def check_embedding_size(
    input_dim: int, output_dim: int, itemsize: int
) -> None:
    """Refuses embeddings of too many bytes."""
    size, limit = input_dim * output_dim * itemsize, max_layer_bytes()
    if size > limit:
        raise ValueError(
            "`input_dim` and `output_dim` must make a table of at most "
            f"{limit / 2**30:g} GiB. Received: input_dim={input_dim}, "
            f"output_dim={output_dim}, which takes {size / 2**30:.1f} GiB "
            f"({size} bytes). Lower one of them, or raise the bound with the "
            f"environment variable `{MAX_LAYER_GIB_VARIABLE}`."
        )


def _level_size(num_trees: int, depth: int) -> None:
    # The bound on the exponent avoids computing a power of an absurd depth.
    if num_trees > MAX_ROWS or num_trees * 2 ** min(depth, 32) > MAX_ROWS:
        raise ValueError(
            "`depth` and `num_trees` must make a deepest level of at most "
            "2**31 rows, `num_trees * 2**depth`. Received: "
            f"depth={depth}, with {num_trees} tree(s). Lower `depth` or "
            "`num_trees`."
        )


def _memory(
    size: int, what: str, num_trees: int, depth: int, width: int, units: int
) -> None:
    limit = max_layer_bytes()
    if size > limit:
        raise ValueError(
            f"`units` and `depth` must make {what} of at most "
            f"{limit / 2**30:g} GiB. Received: units={units}, depth={depth}, "
            f"with {num_trees} tree(s) of width {width}, which takes "
            f"{size / 2**30:.1f} GiB ({size} bytes). Lower `depth` (one less "
            "halves it) or `units`, or raise the bound with the environment "
            f"variable `{MAX_LAYER_GIB_VARIABLE}`."
        )


def checked_sizes(
    units: object, depth: object, num_trees: object, levels: object = "ends"
) -> tuple[int, int, int | str | None, tuple[int, ...]]:
    """Returns the arguments of a layer, checked.

    Integers are returned as `int`, and `levels` as the depths that store nodes.
    """
    units = checks.integer("units", units, 1)
    depth = checks.integer("depth", depth, 0)
    known_trees = 1  # at least
    if isinstance(num_trees, str) and num_trees == "auto":
        pass
    elif num_trees is not None:
        if isinstance(num_trees, str):
            raise ValueError(
                '`num_trees` must be "auto", `None` or a positive integer. '
                f"Received: num_trees={num_trees!r}. Leave it out for "
                '"auto", which is `min(64, inputs)`.'
            )
        num_trees = checks.integer("num_trees", num_trees, 1)
        known_trees = num_trees
    _level_size(known_trees, depth)
    levels = checked_levels(levels, depth)
    check_tree_size(known_trees, levels, 1, units, itemsize=1)
    return units, depth, num_trees, levels


def checked_levels(levels: object, depth: int) -> tuple[int, ...]:
    """Returns the depths that store nodes, for the `levels` of a layer."""
    if isinstance(levels, str) and levels in LEVELS:
        return tuple(
            range(depth + 1) if levels == "all" else sorted({0, depth})
        )
    try:
        if isinstance(levels, str | bytes) or not isinstance(levels, Iterable):
            raise TypeError
        found = [operator.index(level) for level in levels]
    except TypeError:
        found = []
    ascending = all(low < high for low, high in itertools.pairwise(found))
    if not found or not ascending or (found[0], found[-1]) != (0, depth):
        raise ValueError(
            '`levels` must be "all", "ends" or an ascending sequence of '
            "depths that begins with 0 and ends with `depth`, which is "
            f"{depth}. Received: levels={checks.shown(levels)}. Write e.g. "
            f"`levels={tuple(sorted({0, depth // 2, depth}))}`, or leave it "
            'out for "all".'
        )
    return tuple(found)
