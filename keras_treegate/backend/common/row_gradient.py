"""The gradient of a table of which a step used only some rows.

Some frameworks have dense gradients only. Their backward pass records the rows
of the gradient that it returns, by the identity of the array, and an optimizer
finds them.
"""

import itertools
import threading
import weakref
from typing import NamedTuple, Protocol, cast

from keras import ops

from keras_treegate.core.rows import distinct_rows, smaller
from keras_treegate.types import Tensor, Variable


class RowGradient(NamedTuple):
    """A gradient that is zero outside the rows `ids`.

    ids: (R,) integers, distinct, ascending and in bounds.
    rows: (R, ...), the gradient at these rows.
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
    """Rows as sums, tree by tree: `rows[positions[i]] += leaves[i]`.

    leaves: (G * U_D, W, Q), the gradient of the leaf sums.
    positions: (G * U_D,), for each the row it is added to, of its own tree.
    num_trees: G.
    """

    leaves: Tensor
    positions: Tensor
    num_trees: int


def merged(ids: Tensor, rows: Tensor, num_rows: int) -> RowGradient:
    """Makes a `RowGradient` of ids (R,) that may repeat.

    It has min(R, num_rows) rows. Those of equal ids are summed; spare ones have
    other ids with rows of zeros, so that shapes depend on R alone.
    """
    size = smaller(ops.shape(ids)[0], num_rows)
    order = ops.argsort(ids)
    ascending = ops.expand_dims(ops.cast(ops.take(ids, order), "int32"), 0)
    ids, positions = distinct_rows(ascending, num_rows, size)
    rows = ops.segment_sum(ops.take(rows, order, axis=0), positions[0], size)
    return RowGradient(ids, rows, num_rows)


_numbers = itertools.count()


class _Numbered(Protocol):
    """A variable that has a number."""

    row_records_key: int


def key_of(variable: Variable) -> int:
    """Returns a number for a variable that, unlike an `id`, no other gets."""
    numbered = cast(_Numbered, variable)
    if not hasattr(variable, "row_records_key"):
        numbered.row_records_key = next(_numbers)
    return numbered.row_records_key


class RowRecords:
    """The rows of living gradients; a record is deleted with its gradient."""

    def __init__(self) -> None:
        self._records: dict[int, tuple[weakref.ref[Tensor], RowGradient]] = {}
        self._backward_passes: dict[int, int] = {}
        # Reentrant, because a gradient can be collected, and its record with
        # it, while the lock is held.
        self._lock = threading.RLock()

    def add(self, dense: Tensor, table: int, gradient: RowGradient) -> None:
        """Records the rows of a dense gradient, of the table of this key."""
        key = id(dense)

        def forget(reference: weakref.ref[Tensor]) -> None:
            with self._lock:
                if key in self._records and self._records[key][0] is reference:
                    del self._records[key]

        with self._lock:
            self._records[key] = weakref.ref(dense, forget), gradient
        self.count(table)

    def count(self, table: int) -> None:
        """Counts a backward pass through rows of a table."""
        with self._lock:
            passes = self._backward_passes.get(table, 0)
            self._backward_passes[table] = passes + 1

    def find(self, dense: Tensor, table: int) -> tuple[RowGradient | None, int]:
        """Returns the rows of a gradient, and how often rows were recorded.

        The count is that of the table, since it was last asked for.
        """
        with self._lock:
            record = self._records.get(id(dense))
            passes = self._backward_passes.pop(table, 0)
        if record is None or record[0]() is not dense:
            return None, passes
        return record[1], passes

    def __len__(self) -> int:
        return len(self._records)
