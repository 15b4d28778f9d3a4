"""Updates of rows under TensorFlow: compiled by XLA on CPU, in place.

In a graph on CPU, of all tables of a step together: those with dense gradients
as they are, and one loop over parts of the rows of the others, in which XLA
runs the tables side by side and what is computed for a part stays in cache.
TensorFlow's own gathers and scatters of all rows take twice the time. Else, of
one table after the other.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.tensorflow.rows import native, read_rows

# The numbers of a table that a part has.
CHUNK = 2**16


def updating_rows() -> Any:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if tf.executing_eagerly() or replicas > 1:
        return contextlib.nullcontext(_update_at_once)
    return _updating_together()


@contextlib.contextmanager
def _updating_together() -> Iterator[Callable]:
    updates: list[_Update] = []
    whole: list[tuple] = []

    def update_rows(variables: list, gradient: Any, update: Callable) -> None:
        tables = [native(variable) for variable in variables]
        if not all(map(_is_on_cpu, tables)):
            _update_at_once(variables, gradient, update)
        elif isinstance(gradient, RowGradient):
            updates.append(_Update(tables, gradient, update))
        else:
            whole.append((tables, gradient, update))

    def all_of_them() -> None:
        for tables, gradient, update in whole:
            _update_whole(tables, gradient, update)
        if updates:
            _update_together(updates)

    yield update_rows
    if whole or updates:
        # A function of its own: XLA writes the variables of one in place.
        tf.function(all_of_them, jit_compile=True, autograph=False)()


def _is_on_cpu(table: Any) -> bool:
    return isinstance(table, tf.Variable) and "CPU" in table.device


def _update_whole(tables: list, gradient: Any, update: Callable) -> None:
    """Updates all rows of tables, of a dense gradient."""
    values = [table.read_value() for table in tables]
    update(values, gradient)
    for table, value in zip(tables, values, strict=True):
        table.assign(tf.cast(value, table.dtype))


def _update_together(updates: list) -> None:
    """Updates the rows of all tables, in as many parts each."""
    chunks = [CHUNK // math.prod(update.shape) for update in updates]
    parts = tf.reduce_max(
        [
            update.count // max(2, chunk)
            for update, chunk in zip(updates, chunks, strict=True)
        ]
    )
    parts = tf.maximum(parts, 1)
    # Even, and so never of one row.
    sizes = [update.count // parts // 2 * 2 for update in updates]

    def step(part: Any, tables: list) -> tuple:
        return part + 1, [
            update.updated(own, part * size, size)
            for update, own, size in zip(updates, tables, sizes, strict=True)
        ]

    tables = [[t.read_value() for t in update.tables] for update in updates]
    _, tables = tf.while_loop(
        lambda part, _: part < parts - 1, step, (tf.constant(0), tables)
    )
    for update, own, size in zip(updates, tables, sizes, strict=True):
        first = (parts - 1) * size
        new = update.updated(own, first, update.count - first)
        for table, value in zip(update.tables, new, strict=True):
            table.assign(value)


class _Update:
    """An update of some rows of tables."""

    def __init__(
        self, tables: list, gradient: RowGradient, update: Callable
    ) -> None:
        self.tables = tables
        self.update = update
        self.shape = tables[0].shape[1:]
        self.ids, self.rows = gradient.ids, gradient.rows

    @property
    def count(self) -> Any:
        """How many rows: XLA knows when it compiles, if not before."""
        return tf.shape(self.ids)[0]

    def updated(self, tables: list, first: Any, count: Any) -> list:
        """The tables after the update of so many rows."""
        rows = _RowsOf(tables, tf.slice(self.ids, [first], [count]))
        size = [count, *self.shape]
        self.update(rows, tf.slice(self.rows, [first, 0, 0], size))
        return rows.tables


class _RowsOf:
    """Rows of tables, by slices of the list of tables.

    They are gathered each time they are asked for: XLA on CPU is much faster at
    a gather that has one use.
    """

    def __init__(self, tables: list, ids: Any) -> None:
        self.tables, self.ids = list(tables), ids

    def __getitem__(self, place: slice) -> list:
        return [tf.gather(table, self.ids) for table in self.tables[place]]

    def __setitem__(self, place: slice, new: list) -> None:
        index = self.ids[:, None]
        self.tables[place] = [
            tf.tensor_scatter_nd_update(
                table, index, tf.cast(rows, table.dtype)
            )
            for table, rows in zip(self.tables[place], new, strict=True)
        ]


def _update_at_once(variables: list, gradient: Any, update: Callable) -> None:
    ids = None
    if isinstance(gradient, RowGradient):
        ids, gradient = gradient.ids, gradient.rows
    old = [read_rows(variable, ids) for variable in variables]

    def updated(rows: list, gradient: Any) -> list:
        rows = list(rows)
        update(rows, gradient)
        return rows

    if not tf.executing_eagerly():
        # One pass over memory instead of one for each operation.
        updated = tf.function(updated, jit_compile=True, autograph=False)
    for variable, rows in zip(variables, updated(old, gradient), strict=True):
        _write_rows(variable, ids, rows)


def _write_rows(variable: Any, ids: Any, rows: Any) -> None:
    table = native(variable)
    rows = tf.cast(rows, table.dtype)
    if ids is None:
        table.assign(rows)
    else:
        table.scatter_update(tf.IndexedSlices(rows, ids))
