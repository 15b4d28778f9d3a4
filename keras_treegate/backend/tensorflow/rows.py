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

import functools
import weakref
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import keras
import tensorflow as tf

from keras_treegate.backend.common.row_gradient import (
    RowGradient,
    RowRecords,
    key_of,
    merged,
)
from keras_treegate.backend.tensorflow.exporting import is_exporting
from keras_treegate.backend.tensorflow.in_place import is_shared
from keras_treegate.core import decay
from keras_treegate.core.rows import TableVariables
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")

# The gradients for a table and for the ids of its rows; the latter have none.
Gradients: TypeAlias = tuple[Tensor | tf.IndexedSlices, None]

# Optimizers write any variable here.
DECAY_STATE_IS_TRAINABLE = False

records = RowRecords()

# The last slices that were returned for each table, while they live.
_slices: weakref.WeakValueDictionary[int, tf.IndexedSlices] = (
    weakref.WeakValueDictionary()
)

# The index of the scatter that makes the dense gradient of rows, in a graph.
_INDEX = "keras_treegate_rows"


@functools.cache
def _traced(
    function: Callable[..., Result], by_xla: bool
) -> Callable[..., Result]:
    def with_shapes(arguments: tuple[Tensor, ...], shapes: object) -> Result:
        del shapes  # tells traces apart
        return function(*arguments)

    return tf.function(with_shapes, jit_compile=by_xla, autograph=False)


def _is_variable(argument: object) -> bool:
    return isinstance(argument, tf.Variable) or is_shared(argument)


def compiled(
    function: Callable[..., Result], eagerly: bool = False, by_xla: bool = True
) -> Callable[..., Result]:
    """Compiles a function of its arguments alone by XLA, once for each shape.

    Where no graph is made, it is compiled only if `eagerly` is true. Without
    XLA it is a graph, made once for each shape.

    It is given the static shapes as well: `tf.function` would take a trace of
    unknown sizes, if there is one, for sizes that are known, and forget these.
    """

    def call(*arguments: Tensor) -> Result:
        if tf.executing_eagerly() and not eagerly:
            return function(*arguments)
        if is_exporting():  # no other runtime knows a compiled function
            return function(*arguments)
        # Not variables: a graph that reads one can be called only while that
        # one lives, and is kept for all others of its shape.
        arguments = tf.nest.map_structure(
            lambda x: tf.convert_to_tensor(x) if _is_variable(x) else x,
            arguments,
        )
        shapes = tuple(
            tuple(leaf.shape) if tf.is_tensor(leaf) else None
            for leaf in tf.nest.flatten(arguments)
        )
        return _traced(function, by_xla)(arguments, shapes)

    return call


def native(variable: Variable | tf.Variable) -> Tensor:
    """Returns the `tf.Variable`; an `update_step` may already have that."""
    return variable if isinstance(variable, tf.Variable) else variable.value


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


def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
    if ids is None:
        return tf.convert_to_tensor(native(variable))
    return tf.gather(native(variable), ids)


def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
    if ids is None:
        rows = tf.convert_to_tensor(native(table.values))
    else:
        rows = take_rows(table.values, ids, table.as_rows)
    return decay.read(rows, owed_decay(table.clock, table.stamps, ids))


def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
    table = native(variable)
    rows = tf.cast(rows, table.dtype)
    # A slice is assigned by a copy of the whole variable.
    ids = tf.range(start, start + rows.shape[0])
    table.scatter_update(tf.IndexedSlices(rows, ids))


read_clock = decay.read_clock


def owed_decay(clock: Variable, stamps: Variable, ids: Tensor | None) -> Tensor:
    return decay.owed(read_rows(clock, None), read_rows(stamps, ids))


def watch(
    tensor: Tensor, variable: Variable, check: Callable[[], None] | None
) -> Tensor:
    if check is None:
        variable.regularizer = None
        return tensor

    if tf.executing_eagerly():
        variable.regularizer = None
        return _watched(tensor, check)

    # Avoids `tf.custom_gradient`, which keeps each graph alive for ever.
    variable.regularizer = _Checking(check)
    return tensor


class _Checking(keras.regularizers.Regularizer):
    """A regularizer of nothing that calls a check."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def __call__(self, x: Tensor) -> Tensor:
        self.check()
        return tf.zeros(())


def _watched(tensor: Tensor, check: Callable[[], None]) -> Tensor:
    """Returns the tensor; a tape that records it keeps the check alive.

    This is for tapes alone, because with them TensorFlow releases the check.
    """

    @tf.custom_gradient
    def identity(
        tensor: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(outputs: Tensor) -> Tensor:
            check()
            return outputs

        return tf.identity(tensor), gradient

    return identity(tensor)


def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
    return tf.executing_eagerly()


def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
    if tf.executing_eagerly():
        return not tf.is_symbolic_tensor(tensor)
    if not tf.is_symbolic_tensor(tensor):
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if graph is tensor.graph:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def is_dense(value: object) -> bool:
    return not isinstance(value, tf.SparseTensor | tf.RaggedTensor)


def can_assign(variable: Variable, tensor: Tensor) -> bool:
    return True


def assign_in_step(variable: Variable, value: Tensor) -> None:
    variable.assign(value)
