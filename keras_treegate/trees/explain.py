"""The work of a layer on a batch and its cost, for people to read."""

from typing import NamedTuple

from keras_treegate import backend
from keras_treegate.core import checks
from keras_treegate.core.rows import count_whole_levels
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.trees.forest import Forest


class MultiplyAdds(NamedTuple):
    """Arithmetic per example: a multiply-add, or an addition, counts one.

    Args:
        tree: With the path summed for each example, `P * Q` for each level
            that is stored.
        folded: With the sums of all paths stored, `P * Q`, as a Dense layer.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(4, depth=2)
    >>> layer.build((None, 8))
    >>> layer.multiply_adds
    MultiplyAdds(tree=96, folded=32)
    """

    tree: int
    folded: int


def multiply_adds(trees: TreeShape, foldable: bool) -> MultiplyAdds:
    """Returns the arithmetic per example in trees of these sizes."""
    product = trees.inputs * trees.units
    paths = len(trees.levels) * product
    return MultiplyAdds(paths, product if foldable else paths)


def explanation(forest: Forest, batch: int, dtype: str) -> str:
    """Describes the choices for a batch of this size, with bytes and work.

    Rows are counted as if no two examples met in a tree below the levels that
    are read whole, because no batch touches more.
    """
    trees, row_levels = forest.trees, forest.row_levels
    row = trees.width * trees.units * checks.itemsize(dtype)
    num_whole = count_whole_levels(trees.levels, batch, row_levels)
    total = sum(trees.num_trees * 2**level * row for level in trees.levels)
    unit, scale = ("MB", 1e6) if total >= 1e6 else ("kB", 1e3)
    lines = [
        f"{trees.num_trees} trees of depth {trees.depth} and width "
        f"{trees.width}, {trees.inputs} inputs, {trees.units} units; a batch "
        f"of {batch}.",
        "",
        _aligned("level", "rows", "read", f"touched {unit}", f"stored {unit}"),
    ]
    touched = 0.0
    for number, level in enumerate(trees.levels):
        rows = trees.num_trees * 2**level
        used = trees.num_trees * min(2**level, batch)
        how = "by row" if number >= num_whole else "whole"
        read = used if number >= num_whole else rows
        touched += read * row / scale
        sizes = (f"{read * row / scale:.2f}", f"{rows * row / scale:.2f}")
        lines.append(_aligned(level, rows, how, *sizes))
    lines.append(
        _aligned("all", "", "", f"{touched:.2f}", f"{total / scale:.2f}")
    )
    product = trees.inputs * trees.units
    leaves = trees.num_trees * min(2**trees.depth, max(batch, 1))
    if num_whole == len(trees.levels):
        leaves = trees.num_trees * 2**trees.depth
    lines += [
        "",
        f"`row_levels={row_levels!r}`: "
        + {
            "auto": "a level with more rows in a tree than the batch has "
            "examples is read by row, as that touches less.",
            "all": "every level is read by row.",
            "none": "every level is read whole.",
        }[row_levels],
        f"Path product: {backend.PRODUCT}.",
        f"Work for each example: {product:,} multiply-adds, and "
        f"{(len(trees.levels) - 1) * product:,} additions along the paths, "
        "which a folded "
        "layer does not need.",
        f"Memory for the sums of paths: {leaves * row / scale:.2f} {unit}; as "
        "much again for their gradient in training.",
    ]
    return "\n".join(lines)


def _aligned(*cells: object) -> str:
    widths = (5, 10, 7, 11, 10)
    pairs = zip(cells, widths, strict=True)
    return " ".join(str(cell).rjust(width) for cell, width in pairs).rstrip()
