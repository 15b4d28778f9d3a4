"""Leaf sums under TensorFlow, compiled by XLA, on CPU too."""

from collections.abc import Callable

import tensorflow as tf

from keras_treegate.backend.common import reference
from keras_treegate.backend.tensorflow.compiling import compiled
from keras_treegate.backend.tensorflow.in_place import (
    InPlace,
    lies_in_place,
    native,
)
from keras_treegate.backend.tensorflow.row_gradients import (
    read_table,
    take_rows,
)
from keras_treegate.backend.tensorflow.rows import read_rows
from keras_treegate.core import decay
from keras_treegate.core.rows import BatchRows, TableVariables
from keras_treegate.types import Tensor


def leaf_sums(levels: list[TableVariables], rows: BatchRows) -> Tensor:
    if tf.executing_eagerly():
        parts = map(read_table, levels, (needed.ids for needed in rows.levels))
        return reference.leaf_sums(list(parts), rows)
    tables, of_gradients, states = [], [], []
    for level, (ids, _) in zip(levels, rows.levels, strict=True):
        table, stamps = native(level.values), native(level.stamps)
        if ids is None:
            of_gradients.append(read_rows(level.values, None))
            table, stamps = of_gradients[-1], read_rows(level.stamps, None)
        else:
            # Only gets the gradient where the table lies in place: a graph
            # leaves out what nothing reads.
            of_gradients.append(take_rows(level.values, ids, level.as_rows))
            if lies_in_place(table):
                table, stamps = InPlace.of(table), InPlace.of(stamps)
            else:
                table, stamps = of_gradients[-1], read_rows(level.stamps, ids)
        tables.append(table)
        states.append((read_rows(level.clock, None), stamps))
    sums = tf.stop_gradient(compiled(_leaf_sums)(tables, states, rows))
    graph = compiled(_with_gradients, by_xla=False)
    return graph(sums, rows, *of_gradients)


def _with_gradients(sums: Tensor, rows: BatchRows, *tables: Tensor) -> Tensor:
    """Returns the sums, as a function of tensors that get the gradients."""

    # Runs only in a graph that is made once, because TensorFlow keeps each for
    # ever.
    @tf.custom_gradient
    def of_tables(
        sums: Tensor, *tables: Tensor
    ) -> tuple[Tensor, Callable[..., list[Tensor]]]:
        def gradient(sums: Tensor) -> list[Tensor]:
            shapes = [table.shape for table in tables]
            return [None, *compiled(_of_tables)(sums, shapes, rows)]

        return tf.identity(sums), gradient

    return of_tables(sums, *tables)


def _leaf_sums(
    tables: list[Tensor | InPlace],
    states: list[tuple[Tensor, Tensor | InPlace]],
    rows: BatchRows,
) -> Tensor:
    sums = None
    for table, (clock, stamps), (ids, positions) in zip(
        tables, states, rows.levels, strict=True
    ):
        if ids is None:
            level = decay.decayed(table, decay.owed(clock, stamps))
            if sums is not None:
                level = reference.with_children(sums, level)
            sums = level if positions is None else tf.gather(level, positions)
        else:
            owed = decay.owed(clock, _rows_of(stamps, ids))
            level = decay.decayed(_rows_of(table, ids), owed)
            if positions is not None:
                level = tf.gather(level, positions)
            sums = level if sums is None else sums + level
    return sums


def _rows_of(table: Tensor | InPlace, ids: Tensor) -> Tensor:
    """Gathers rows of a table in place; returns rows as they are."""
    return table.rows(ids) if isinstance(table, InPlace) else table


def _of_tables(
    sums: Tensor, shapes: list[tf.TensorShape], rows: BatchRows
) -> list[Tensor]:
    """Returns the gradients of tables or rows, given that of the sums."""
    gradients: list[Tensor] = []
    for shape, (ids, positions) in zip(
        shapes[::-1], rows.levels[::-1], strict=True
    ):
        if ids is not None:
            num_rows = tf.shape(ids)[0]
            gradients.append(_sums_at(sums, positions, num_rows))
            continue
        if positions is None and gradients:
            below = tf.reshape(sums, (shape[0], -1, *sums.shape[1:]))
            sums = tf.reduce_sum(below, axis=1)
        else:
            sums = _sums_at(sums, positions, shape[0])
        gradients.append(sums)
    return gradients[::-1]


def _sums_at(leaves: Tensor, positions: Tensor, num_rows: Tensor) -> Tensor:
    """Returns so many rows of sums: `sums[positions[i]] += leaves[i]`."""
    if positions is None:
        return leaves
    zeros = tf.zeros((num_rows, *leaves.shape[1:]), leaves.dtype)
    return tf.tensor_scatter_nd_add(zeros, positions[:, None], leaves)
