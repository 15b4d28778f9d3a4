"""Records of the rows that dense gradients are made of, by array identity.

They are for frameworks whose gradients can only be dense: the backward pass
records the rows of the gradient that it returns, and an optimizer finds them.
"""

import itertools
import threading
import weakref
from typing import Protocol, cast

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.types import Tensor, Variable

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
