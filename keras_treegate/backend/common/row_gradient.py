"""The gradient of a table of which a step used only some rows."""

from typing import Any, NamedTuple

from keras import ops

from keras_treegate.core.rows import distinct_rows, smaller


class RowGradient(NamedTuple):
    """A gradient that is zero outside the rows `ids`.

    ids: (R,) integers, distinct, ascending and in bounds.
    rows: (R, W, Q), the gradient at these rows.
    num_rows: the rows of the table.
    summands: what `rows` are sums of, where a backend can make use of it.
    """

    ids: Any
    rows: Any
    num_rows: int
    summands: Any = None

    def with_rows(self, rows: Any) -> "RowGradient":
        """Other numbers for the same rows."""
        return RowGradient(self.ids, rows, self.num_rows)


class Summands(NamedTuple):
    """Rows as sums, tree by tree: `rows[slots[i]] += leaves[i]`.

    leaves: (G * U_D, W, Q), the gradient of the leaf sums.
    slots: (G * U_D,), for each the row it is added to, of its own tree.
    num_trees: G.
    """

    leaves: Any
    slots: Any
    num_trees: int


def merged(ids: Any, rows: Any, num_rows: int) -> RowGradient:
    """A `RowGradient` of ids (R,) that may repeat.

    It has min(R, num_rows) rows. Those of equal ids are summed; spare ones have
    other ids with rows of zeros, so that shapes depend on R alone.
    """
    size = smaller(ops.shape(ids)[0], num_rows)
    order = ops.argsort(ids)
    ascending = ops.expand_dims(ops.cast(ops.take(ids, order), "int32"), 0)
    ids, slots = distinct_rows(ascending, num_rows, size)
    rows = ops.segment_sum(ops.take(rows, order, axis=0), slots[0], size)
    return RowGradient(ids, rows, num_rows)
