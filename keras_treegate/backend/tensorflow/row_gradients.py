"""Row gradients under TensorFlow.

Keras's own optimizers are wrong on `tf.IndexedSlices` whose ids repeat, as the
sum of two uses of a layer has them, and at the first step no one knows yet
which optimizer there will be. So what the backward pass returns is right for
all of them:

- in a graph the true dense gradient, a scatter, in which a step-aware optimizer
  finds the rows that it is made of. It never uses the scatter itself, which is
  then no part of what is run. Where anything else was done to the gradient, the
  dense one is used;
- eagerly, `tf.IndexedSlices` of distinct ids where a step-aware optimizer
  listens to the level; else, and beside other slices of the same table, the
  dense gradient, with a record of its rows.
"""

import weakref
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_treegate.backend.common.row_gradient import (
    RowGradient,
    RowRecords,
    key_of,
    merged,
)
from keras_treegate.backend.tensorflow.compiling import compiled
from keras_treegate.backend.tensorflow.in_place import native
from keras_treegate.backend.tensorflow.rows import owed_decay
from keras_treegate.core import decay
from keras_treegate.core.rows import TableVariables
from keras_treegate.types import Tensor, Variable

# The gradients for a table and for the ids of its rows; the latter have none.
Gradients: TypeAlias = tuple[Tensor | tf.IndexedSlices, None]

records = RowRecords()

# The last slices that were returned for each table, while they live.
_slices: weakref.WeakValueDictionary[int, tf.IndexedSlices] = (
    weakref.WeakValueDictionary()
)

# The index of the scatter that makes the dense gradient of rows, in a graph.
_INDEX = "keras_treegate_rows"


def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
    if ids is None:
        rows = tf.convert_to_tensor(native(table.values))
    else:
        rows = take_rows(table.values, ids, table.as_rows)
    return decay.read(rows, owed_decay(table.clock, table.stamps, ids))


def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
    table, key = native(variable), key_of(variable)
    if not isinstance(table, tf.Variable):  # in a `StatelessScope`
        return tf.gather(tf.reshape(table, table.shape), ids)
    if tf.distribute.in_cross_replica_context():
        return tf.gather(table, ids)  # has no handle there, and no gradient
    # A tape watches a variable once it is read; no row of it is enough.
    tf.gather(table, ids[:0])
    if tf.executing_eagerly():
        return _take_eagerly(table, key, ids, as_rows)
    records.count(key)
    rows = tf.raw_ops.ResourceGather(
        resource=table.handle, indices=ids, dtype=table.dtype
    )
    # The gradient of this operation is one scatter, because of the third axis.
    # Nothing reads what it gives, so a graph leaves it out.
    index = tf.reshape(ids, (-1, 1, 1), name=_INDEX)
    stand_in = tf.squeeze(tf.gather_nd(tf.identity(table), index), 1)
    as_is = compiled(_with_gradient_of, by_xla=False)
    return as_is(tf.stop_gradient(rows), stand_in)


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """Returns a value whose gradient goes to another tensor of its shape."""

    # Runs only in a graph that is made once, because TensorFlow keeps each for
    # ever.
    @tf.custom_gradient
    def of_both(
        value: Tensor, other: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[None, Tensor]]]:
        return tf.identity(value), lambda gradient: (None, gradient)

    return of_both(value, other)


def _take_eagerly(
    table: tf.Variable, key: int, ids: Tensor, as_rows: bool
) -> Tensor:
    # Avoids a gather of the variable, which would be read and copied whole.
    rows = tf.raw_ops.ResourceGather(
        resource=table.handle, indices=ids, dtype=table.dtype
    )

    @tf.custom_gradient
    def rows_of(
        handle: Tensor, ids: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
        del handle  # it has the gradient

        def gradient(rows: Tensor) -> Gradients:
            if as_rows and key not in _slices:
                slices = tf.IndexedSlices(rows, ids, tf.shape(table))
                _slices[key] = slices
                records.count(key)
                return slices, None
            dense = tf.scatter_nd(tf.expand_dims(ids, 1), rows, table.shape)
            records.add(dense, key, RowGradient(ids, rows, table.shape[0]))
            return dense, None

        return rows, gradient

    return rows_of(table.handle, ids)


def as_row_gradient(
    gradient: Tensor, variable: Variable
) -> tuple[Tensor | RowGradient, str | None]:
    key, num_rows = key_of(variable), variable.shape[0]
    record, passes = records.find(gradient, key)
    is_slices = isinstance(gradient, tf.IndexedSlices)
    if record is None and not passes and not is_slices:
        return gradient, None
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        cause = "replicas touch different rows, and their gradients are summed"
        return tf.convert_to_tensor(gradient), cause
    if record is not None:
        return record, None
    if is_slices:
        ids, rows = gradient.indices, gradient.values
        if _slices.get(key) is gradient:
            return RowGradient(ids, rows, num_rows), None
        return merged(ids, rows, num_rows), None
    if tf.is_symbolic_tensor(gradient):
        summands = _summands(gradient)
        if summands is not None:
            return _sum(summands, gradient, num_rows), None
    elif passes > 1:
        cause = f"its layer is used {passes} times, which is summed eagerly"
        return gradient, cause
    return gradient, (
        "something came between the backward pass and the optimizer (a "
        "`tf.function` of its own around the loss, a stock LossScaleOptimizer, "
        "a use of the whole table beside that of its rows, or arithmetic on "
        "the gradient)"
    )


def _summands(gradient: Tensor) -> list[tuple[Tensor, Tensor]] | None:
    """Finds pairs of ids and rows whose sum a tensor of a graph is, if any."""
    operation = gradient.op
    if operation.type == "ScatterNd" and _INDEX in operation.inputs[0].op.name:
        index, rows, _ = operation.inputs
        return [(tf.squeeze(index, (1, 2)), tf.squeeze(rows, 1))]
    if operation.type != "AddN":
        return None
    summands: list[tuple[Tensor, Tensor]] = []
    for term in operation.inputs:
        found = _summands(term)
        if found is None:
            return None
        summands += found
    return summands


def _sum(
    summands: list[tuple[Tensor, Tensor]], dense: Tensor, num_rows: int
) -> Tensor | RowGradient:
    """Returns a sum as rows; dense where these are no fewer than the table."""
    if len(summands) == 1:
        ids, rows = summands[0]
        return RowGradient(ids, rows, num_rows)
    sizes = [ids.shape[0] for ids, _ in summands]
    if None not in sizes and sum(sizes) >= num_rows:
        return dense
    ids, rows = (tf.concat(parts, 0) for parts in zip(*summands, strict=True))
    return merged(ids, rows, num_rows)
