"""The integers of the trees: leaf codes, rows of a level, distinct rows.

The shape alphabet of the whole package:

    B  examples of the batch (all leading axes as one)
    P  input units
    Q  output units
    G  trees
    W  width of a tree's block of input units
    D  depth, the bits of a path
    L  leaves of a tree, 2^D
    S  units of the gate source
    U  rows of a level, in each tree, that are read for a batch; the place of a
       row among them is its position
    N  rows of a table: of one level, in all trees, or of embeddings
    R  rows of a table that are read for a batch, of all trees

A leaf code is `c = sum of b_l * 2^(D - l)`, l = 1..D: the first bit decides at
the root. The node at level l is row `g * 2^l + (c >> (D - l))`. With the tree's
number in front, `key = g * 2^D + c`, that row is `key >> (D - l)`.
"""

from typing import NamedTuple

from keras import ops

from keras_treegate.types import Tensor, Variable

# A level is read row by row when it has more rows in each tree than a batch has
# examples. Where the batch size is unknown while tracing, this stands for it.
UNKNOWN_BATCH = 256


def codes_from_bits(bits: Tensor) -> Tensor:
    """Returns the leaf codes of bits: `sum over l of b(g, l) * 2^(D - l)`.

    Args:
        bits: Booleans (..., G, D), the first of which decides at the root.

    Returns:
        (..., G), int32.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> bits = np.array([[[True, False]]])  # one example, one tree
    >>> np.array(keras_treegate.gates.codes_from_bits(bits)).tolist()
    [[2]]
    """
    depth = bits.shape[-1]
    place_values = ops.convert_to_tensor(
        [2 ** (depth - level) for level in range(1, depth + 1)], dtype="int32"
    )
    return ops.sum(ops.cast(bits, "int32") * place_values, axis=-1)


class TableVariables(NamedTuple):
    """The variables of a table of rows, as a backend takes them.

    values: (N, ...), the rows as they were last written.
    clock, stamps: (2,) and (N, 2), see `core.decay`.
    as_rows: whether an optimizer looks for the gradient as rows.
    """

    values: Variable
    clock: Variable
    stamps: Variable
    as_rows: bool


class LevelRows(NamedTuple):
    """The rows of one level that a batch needs, and the way to them.

    ids: (G * U,) int32, the rows to read, distinct and ascending; `None` for a
        level that is read whole, whose positions are its rows (U = 2^l).
    positions: (G * U_D,) int32, for each leaf that is read the position, in
        this level, of the node on its path; `None` for the leaves, and for a
        level read whole where the next is too.
    """

    ids: Tensor
    positions: Tensor | None


class BatchRows(NamedTuple):
    """The rows a batch needs, level by level, and where each example's leaf is.

    Positions are counted over all trees: position `s` of tree g is `g * U + s`.

    levels: one `LevelRows` for each level that is stored, from the roots down.
    leaf_positions: (G, B) int32, of each example in the deepest level.
    """

    levels: list[LevelRows]
    leaf_positions: Tensor

    @property
    def whole(self) -> int:
        """The number of levels that are read whole, from the roots down."""
        return sum(level.ids is None for level in self.levels)

    def example_positions(self, depths: tuple[int, ...]) -> list[Tensor]:
        """Returns the positions (G, B) of examples, level by level."""
        positions = [self.leaf_positions]
        for number in reversed(range(len(depths) - 1)):
            of_leaves = self.levels[number].positions
            if of_leaves is None:  # whole, as the level below
                bits = depths[number + 1] - depths[number]
                positions.insert(0, ops.right_shift(positions[0], bits))
            else:
                positions.insert(0, ops.take(of_leaves, self.leaf_positions))
        return positions


def count_whole_levels(
    depths: tuple[int, ...], batch: int | None, row_levels: str
) -> int:
    """Counts the levels that are read whole; those after them are by row."""
    if row_levels == "none":
        return len(depths)
    if row_levels == "all":
        return 0
    batch = UNKNOWN_BATCH if batch is None else batch
    return sum(2**depth <= batch for depth in depths)


def in_order(keys: Tensor, bound: int, batch: int | None) -> tuple[Tensor, ...]:
    """Sorts keys (G, B) below a bound in each tree; returns their order too.

    Keys and order may come as one tensor, see `_taken_apart`.
    """
    if batch is None or bound * batch > 2**31:
        order = ops.argsort(keys, axis=1)
        return ops.take_along_axis(keys, order, axis=1), order
    # Because XLA, under JAX, sorts one array many times faster than two.
    examples = ops.arange(batch, dtype="int32")
    return (ops.sort(keys * batch + examples, axis=1),)


def _taken_apart(ordered: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Returns the sorted keys, and the example that each is of."""
    if len(ordered) == 2:
        return ordered
    batch = ordered[0].shape[1]
    return ops.floor_divide(ordered[0], batch), ops.mod(ordered[0], batch)


def rows_of_sorted(
    ordered: tuple[Tensor, ...], depths: tuple[int, ...], num_whole: int
) -> BatchRows:
    """Finds the rows for leaf keys (G, B) that `in_order` has sorted.

    The first `num_whole` levels are read whole.
    """
    keys, order = _taken_apart(ordered)
    num_trees, batch = keys.shape[0], ops.shape(keys)[1]
    whole = [LevelRows(None, None) for _ in range(num_whole)]
    compact = [
        distinct_rows(
            ops.right_shift(keys, depths[-1] - depth),  # (G, B), ascending
            2**depth,
            _count_read(batch, 2**depth),
        )
        for depth in depths[num_whole:]
    ]
    leaves, leaf_positions = compact.pop()
    if whole:
        bits = depths[-1] - depths[num_whole - 1]
        whole[-1] = LevelRows(None, ops.right_shift(leaves, bits))
    levels = [
        LevelRows(ids, _at_leaves(positions, leaf_positions, ids, leaves))
        for ids, positions in compact
    ]
    # The positions are in sorted order; the index restores that of the batch.
    order = ops.cast(order, "int32") + first_of_trees(num_trees, batch)
    zeros = ops.zeros((num_trees * batch,), dtype="int32")
    leaf_positions = set_at(zeros, order, leaf_positions)
    return BatchRows(
        [*whole, *levels, LevelRows(leaves, None)],
        ops.reshape(leaf_positions, (num_trees, batch)),
    )


def rows_of_sorted_ids(ordered: Tensor, num_rows: int) -> Tensor:
    """Finds the rows of one table for ids (B,) in ascending order.

    Returns:
        The rows to read (U,), distinct and ascending, int32; U = min(B, N).
    """
    size = _count_read(ops.shape(ordered)[0], num_rows)
    rows, _ = distinct_rows(ops.expand_dims(ordered, 0), num_rows, size)
    return rows


def _at_leaves(
    positions: Tensor, leaf_positions: Tensor, ids: Tensor, leaves: Tensor
) -> Tensor:
    """Returns for each leaf the position, in a level, of the node on its path.

    The positions given (G, B) are those in use. Spare leaves get the first
    position of their tree.
    """
    num_trees = positions.shape[0]
    per_tree = ops.shape(ids)[0] // num_trees
    leaves_per_tree = ops.shape(leaves)[0] // num_trees
    first = first_of_trees(num_trees, per_tree)
    first = ops.repeat(first, leaves_per_tree, axis=1)
    return set_at(ops.reshape(first, (-1,)), leaf_positions, positions)


def first_of_trees(num_trees: int, size: Tensor | int) -> Tensor:
    """Returns the start of each tree (G, 1), int32, of trees of one size."""
    trees = ops.arange(num_trees, dtype="int32")
    return ops.expand_dims(trees * size, 1)


def _count_read(batch: Tensor | int, rows: int) -> Tensor | int:
    """Counts the rows that are read of a level of so many rows, in each tree.

    There is at least one even for a batch that turns out to be empty, because
    XLA takes no rows of a table that has none.
    """
    positions = smaller(batch, rows)
    return (
        positions if isinstance(positions, int) else ops.maximum(positions, 1)
    )


def smaller(size: Tensor | int, bound: int) -> Tensor | int:
    """Returns the smaller of a size, which may be a tensor, and an integer."""
    if isinstance(size, int):
        return min(size, bound)
    return ops.minimum(size, bound)


def set_at(table: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Returns a table (N,) with values (G, B) set at an index (G, B).

    Equal indices must have equal values.
    """
    # Avoids `ops.scatter`, under PyTorch a Python loop over the elements.
    index = ops.reshape(index, (-1, 1))
    return ops.scatter_update(table, index, ops.reshape(values, (-1,)))


def distinct_rows(
    rows: Tensor, rows_per_tree: int, num_positions: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Gives the distinct rows of each tree positions, and fills up the rest.

    Spare positions hold the first rows of the tree that are not used. So the
    ids are ascending, and position `s` holds row `s` up to a point and used
    rows from there on: with `d_j` the j-th of `u` used rows, counted from the
    first row of its tree, its position is `min(d_j, U - u + j)`.

    Args:
        rows: (G, B) int32, ascending; tree g has the rows from
            `g * rows_per_tree` on.
        rows_per_tree: the rows each tree has.
        num_positions: U, enough for the distinct rows of each tree and at most
            `rows_per_tree`.

    Returns:
        The ids (G * U,), distinct and ascending, and the position of each of
        `rows`, (G, B), counted over all trees; both int32.
    """
    num_trees = rows.shape[0]
    first_rows = first_of_trees(num_trees, rows_per_tree)
    changes = ops.cast(rows[:, 1:] != rows[:, :-1], "int32")
    runs = ops.concatenate([ops.zeros_like(rows[:, :1]), changes], axis=1)
    runs = ops.cumsum(runs, axis=1)
    positions = ops.minimum(
        rows - first_rows, num_positions - 1 - runs[:, -1:] + runs
    )
    positions = positions + first_of_trees(num_trees, num_positions)
    spare = first_rows + ops.arange(num_positions, dtype="int32")
    return set_at(ops.reshape(spare, (-1,)), positions, rows), positions
