"""The gradient of a table of which a step used only some rows."""

from typing import NamedTuple

from keras import ops

from keras_treegate.core.rows import distinct_rows, smaller
from keras_treegate.types import Tensor


class RowGradient(NamedTuple):
    """A gradient that is zero outside the rows `ids`.

    ids: (R,) integers, distinct, ascending and in bounds.
    rows: (R, W, Q), the gradient at these rows.
    num_rows: the rows of the table.
    summands: what `rows` are sums of, where a backend can make use of it.
    """

    ids: Tensor
    rows: Tensor
    num_rows: int
    summands: "Summands | None" = None

    def with_rows(self, rows: Tensor) -> "RowGradient":
        """Returns a gradient with other numbers for the same rows."""
        return RowGradient(self.ids, rows, self.num_rows)


class Summands(NamedTuple):
    """Rows as sums, tree by tree: `rows[slots[i]] += leaves[i]`.

    leaves: (G * U_D, W, Q), the gradient of the leaf sums.
    slots: (G * U_D,), for each the row it is added to, of its own tree.
    num_trees: G.
    """

    leaves: Tensor
    slots: Tensor
    num_trees: int


def merged(ids: Tensor, rows: Tensor, num_rows: int) -> RowGradient:
    """Makes a `RowGradient` of ids (R,) that may repeat.

    It has min(R, num_rows) rows. Those of equal ids are summed; spare ones have
    other ids with rows of zeros, so that shapes depend on R alone.
    """
    size = smaller(ops.shape(ids)[0], num_rows)
    order = ops.argsort(ids)
    ascending = ops.expand_dims(ops.cast(ops.take(ids, order), "int32"), 0)
    ids, slots = distinct_rows(ascending, num_rows, size)
    rows = ops.segment_sum(ops.take(rows, order, axis=0), slots[0], size)
    return RowGradient(ids, rows, num_rows)
