"""Updates of rows under TensorFlow: compiled by XLA on CPU, in place.

In a graph on CPU, of all tables of a layer together: those with dense gradients
as they are, and one loop over parts of the rows of the others, in which XLA
runs the tables side by side and what is computed for a part stays in cache.
TensorFlow's own gathers and scatters of all rows take twice the time. Layers
whose tables have equal sizes share what is compiled. Else, of one table after
the other.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.common.row_updates import (
    OptimizerTables,
    SharedUpdate,
    updated_rows,
    updated_tables,
)
from keras_treegate.backend.contract import UpdateRows
from keras_treegate.backend.tensorflow.compiling import run_by_xla
from keras_treegate.backend.tensorflow.in_place import native
from keras_treegate.backend.tensorflow.rows import read_rows
from keras_treegate.types import Tensor, Variable

# Ids and rows, or the numbers of a dense gradient.
Gradient: TypeAlias = Tensor | tuple[Tensor, Tensor]

Operands: TypeAlias = tuple[Tensor, ...]

# The numbers of a table that a part has.
CHUNK = 2**16


@contextlib.contextmanager
def outside_of_traces() -> Iterator[None]:
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        yield
        return

    # Otherwise TensorFlow takes the variables for those of the function that is
    # traced, even here: it then traces the function again, without them, and
    # never releases the first of the two graphs.
    def creator(next_creator: Callable[..., Any], **arguments: Any) -> Any:
        arguments["experimental_enable_variable_lifting"] = False
        return next_creator(**arguments)

    with tf.init_scope(), tf.variable_creator_scope(creator):
        yield


def apply_gradients(apply: Callable[..., None], *arguments: Any) -> None:
    if tf.executing_eagerly() or tf.distribute.has_strategy():
        apply(*arguments)
        return
    # Otherwise Keras sums the gradients of the one replica that there is, by a
    # custom gradient, and TensorFlow keeps the graph of each such for ever.
    replica = tf.distribute.get_replica_context()
    replica.merge_call(lambda _: apply(*arguments))


def updating_rows() -> contextlib.AbstractContextManager[UpdateRows]:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if tf.executing_eagerly() or replicas > 1:
        return contextlib.nullcontext(_update_at_once)
    return _updating_together()


class _Queued(NamedTuple):
    """An update that waits for the others of its step.

    gradient: ids and rows, or a dense gradient.
    """

    tables: OptimizerTables[Tensor]
    gradient: Gradient
    update: SharedUpdate


class _LayerUpdates(NamedTuple):
    """The updates of the tables of a layer: of all their rows, or of some."""

    whole: list[_Queued]
    parts: list[_Queued]


@contextlib.contextmanager
def _updating_together() -> Iterator[UpdateRows]:
    layers: dict[str, _LayerUpdates] = {}

    def update_rows(
        tables: OptimizerTables[Variable],
        gradient: Tensor | RowGradient,
        update: SharedUpdate,
    ) -> None:
        natives = tables.with_values(map(native, tables.as_list()))
        if not all(map(_is_on_cpu, natives.as_list())):
            _update_at_once(tables, gradient, update)
            return
        path = tables.values.path.rpartition("/")[0]
        layer = layers.setdefault(path, _LayerUpdates([], []))
        if isinstance(gradient, RowGradient):
            rows = gradient.ids, gradient.rows
            layer.parts.append(_Queued(natives, rows, update))
        else:
            layer.whole.append(_Queued(natives, gradient, update))

    yield update_rows
    for layer in layers.values():
        _update_layer(*layer)


def _update_layer(whole: list[_Queued], parts: list[_Queued]) -> None:
    """Makes the updates of a layer in one function, shared by equal layers."""
    steps, num_whole = whole + parts, len(whole)
    arguments = [
        (
            [table.handle for table in step.tables.as_list()],
            step.gradient,
            step.update.operands,
        )
        for step in steps
    ]
    kinds = [
        step.tables.with_values(
            (table.shape, table.dtype) for table in step.tables.as_list()
        )
        for step in steps
    ]
    rules = [step.update.rule for step in steps]

    def all_of_them(*arguments: tuple[Tensor, Gradient, Operands]) -> None:
        updates = [
            _Update(
                kinds_of.with_values(
                    map(_Table, handles, kinds_of.as_list()),
                ),
                gradient,
                SharedUpdate(rule, operands),
            )
            for (handles, gradient, operands), kinds_of, rule in zip(
                arguments, kinds, rules, strict=True
            )
        ]
        for update in updates[:num_whole]:
            update.update_whole()
        if updates[num_whole:]:
            _update_together(updates[num_whole:])

    keys = [step.update.key for step in steps]
    # Runs as a function of its own, whose variables XLA writes in place.
    run_by_xla(all_of_them, (num_whole, CHUNK, repr(kinds), *keys), *arguments)


def _is_on_cpu(table: Tensor) -> bool:
    return isinstance(table, tf.Variable) and "CPU" in table.device


class _Table:
    """A variable that is known by its handle, as a shared function gets it."""

    def __init__(
        self, handle: Tensor, kind: tuple[tf.TensorShape, tf.DType]
    ) -> None:
        self.handle = handle
        self.shape, self.dtype = kind

    def read_value(self) -> Tensor:
        value = tf.raw_ops.ReadVariableOp(
            resource=self.handle, dtype=self.dtype
        )
        return tf.ensure_shape(value, self.shape)

    def assign(self, value: Tensor) -> None:
        value = tf.cast(value, self.dtype)
        tf.raw_ops.AssignVariableOp(resource=self.handle, value=value)


def _update_together(updates: list["_Update"]) -> None:
    """Updates the rows of all tables, in as many parts each."""
    chunks = [CHUNK // math.prod(update.shape) for update in updates]
    parts = tf.reduce_max(
        [
            update.count // max(2, chunk)
            for update, chunk in zip(updates, chunks, strict=True)
        ]
    )
    parts = tf.maximum(parts, 1)
    # Even, so that no size is of one row.
    sizes = [update.count // parts // 2 * 2 for update in updates]

    def step(
        part: Tensor, tables: list[list[Tensor]]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        return part + 1, [
            update.updated(values, part * size, size)
            for update, values, size in zip(updates, tables, sizes, strict=True)
        ]

    tables = [
        [table.read_value() for table in update.tables.as_list()]
        for update in updates
    ]
    _, tables = tf.while_loop(
        lambda part, _: part < parts - 1, step, (tf.constant(0), tables)
    )
    for update, values, size in zip(updates, tables, sizes, strict=True):
        first = (parts - 1) * size
        update.assign(update.updated(values, first, update.count - first))


class _Update:
    """An update of tables by a gradient: ids and rows, or of all rows."""

    def __init__(
        self,
        tables: OptimizerTables[tf.Variable | _Table],
        gradient: Gradient,
        update: SharedUpdate,
    ) -> None:
        self.tables = tables
        self.gradient = gradient
        self.update = update
        self.shape = tables.values.shape[1:]

    def update_whole(self) -> None:
        """Updates all rows, of a dense gradient."""
        rows = self.tables.with_values(
            table.read_value() for table in self.tables.as_list()
        )
        change = self.update.of(self.gradient)
        new = updated_rows(rows, change, change.touched)
        self.assign(new.as_list())

    def assign(self, values: list[Tensor]) -> None:
        """Assigns the values of all tables."""
        for table, value in zip(self.tables.as_list(), values, strict=True):
            table.assign(value)

    @property
    def count(self) -> Tensor:
        """The number of rows, which XLA knows when it compiles."""
        return tf.shape(self.gradient[0])[0]

    def updated(
        self, tables: list[Tensor], first: Tensor, count: Tensor
    ) -> list[Tensor]:
        """Returns the tables after the update of so many rows."""
        all_ids, all_rows = self.gradient
        ids = tf.slice(all_ids, [first], [count])
        gradient = tf.slice(
            all_rows,
            [first, *[0] * len(self.shape)],
            [count, *self.shape],
        )
        change = self.update.of(gradient)
        new = updated_tables(
            self.tables.with_values(tables),
            change,
            change.touched,
            read=lambda table: tf.gather(table, ids),
            write=lambda table, rows: tf.tensor_scatter_nd_update(
                table, ids[:, None], tf.cast(rows, table.dtype)
            ),
        )
        return new.as_list()


def _update_at_once(
    tables: OptimizerTables[Variable],
    gradient: Tensor | RowGradient,
    update: SharedUpdate,
) -> None:
    ids = None
    if isinstance(gradient, RowGradient):
        ids, gradient = gradient.ids, gradient.rows
    variables, rule = tables.as_list(), update.rule
    old = [read_rows(variable, ids) for variable in variables]
    # Has no variables, which a compiled function would keep alive.
    layout = tables.with_values(range(len(variables)))

    def updated(
        rows: list[Tensor], gradient: Tensor, operands: Operands
    ) -> list[Tensor]:
        change = rule(gradient, *operands)
        return updated_rows(
            layout.with_values(rows), change, change.touched
        ).as_list()

    if tf.executing_eagerly():
        new = updated(old, gradient, update.operands)
    else:
        # XLA makes one pass over memory instead of one for each operation.
        new = run_by_xla(updated, (update.key,), old, gradient, update.operands)
    for variable, rows in zip(variables, new, strict=True):
        _write_rows(variable, ids, rows)


def _write_rows(variable: Variable, ids: Tensor | None, rows: Tensor) -> None:
    table = native(variable)
    rows = tf.cast(rows, table.dtype)
    if ids is None:
        table.assign(rows)
    else:
        table.scatter_update(tf.IndexedSlices(rows, ids))
