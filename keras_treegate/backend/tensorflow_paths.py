"""Leaf sums and path products under TensorFlow, without an array (B, P, Q).

TensorFlow's own kernels do one pass over memory for each operation, and take
the gradient of a gather an element at a time. So these are compiled by XLA, on
CPU too: functions of tensors alone, traced and compiled once for each shape.
"""

from typing import Any

import tensorflow as tf

from keras_treegate import decay
from keras_treegate.backend import reference
from keras_treegate.backend.tensorflow import read_rows, take_rows
from keras_treegate.tree import BatchRows

# The input units that one step of the loop of a product multiplies.
UNITS = 8

# A product of so few numbers is not worth compiling where no graph is made.
SMALL = 2**22


def leaf_sums(levels: list, rows: BatchRows) -> Any:
    """See `reference.leaf_sums`."""
    if tf.executing_eagerly():
        return reference.leaf_sums(levels, rows)
    tables, clocks, stamps, slots = [], [], [], []
    for level, needed in zip(levels, rows.levels, strict=True):
        if needed.ids is None:
            tables.append(tf.convert_to_tensor(level.nodes.value))
        else:
            listened = len(level.listeners) > 0
            tables.append(take_rows(level.nodes, needed.ids, listened))
        clocks.append(read_rows(level.clock, None))
        stamps.append(read_rows(level.stamps, needed.ids))
        slots.append(needed.slots)
    return _leaf_sums(tables, clocks, stamps, slots, rows.whole)


@tf.function(jit_compile=True, autograph=False)
def _leaf_sums(
    tables: list, clocks: list, stamps: list, slots: list, whole: int
) -> Any:
    sums = None
    for number, rows in enumerate(tables):
        owed = decay.owed(clocks[number], stamps[number])
        constant = tf.stop_gradient(rows)
        rows = decay.decayed(constant, owed) + (rows - constant)
        if number < whole:
            sums = rows if sums is None else tf.repeat(sums, 2, axis=0) + rows
            if slots[number] is not None:
                sums = _take(sums, slots[number])
        else:
            if slots[number] is not None:
                rows = _take(rows, slots[number])
            sums = rows if sums is None else sums + rows
    return sums


def _take(rows: Any, slots: Any) -> Any:
    # The gradient of a reshape is dense, and so is summed here, by XLA.
    return tf.gather(tf.reshape(rows, tf.shape(rows)), slots)


def path_product(inputs: Any, sums: Any, slots: Any) -> Any:
    """See `reference.path_product`."""
    if (
        tf.executing_eagerly()
        and len(inputs) * sums.shape[1] * sums.shape[2] * inputs.shape[1]
        < SMALL
    ):
        return reference.path_product(inputs, sums, slots)
    return _path_product(inputs, sums, slots)


@tf.function(jit_compile=True, autograph=False)
def _path_product(inputs: Any, sums: Any, slots: Any) -> Any:
    return _product(inputs, sums, slots)


@tf.custom_gradient
def _product(inputs, sums, slots):
    def gradient(dy):
        return (
            _gradient_of_inputs(dy, sums, slots),
            _gradient_of_sums(inputs, dy, slots, sums),
            None,
        )

    return _by_units(inputs, sums, slots), gradient


def _by_units(inputs, sums, slots):
    _, trees, width = inputs.shape
    units = sums.shape[2]
    table = tf.reshape(sums, (-1, units))
    x = tf.transpose(tf.reshape(inputs, (-1, trees * width)))  # (G W, B)

    def step(first, count, outputs):
        for unit in range(count):
            tree, row = (first + unit) // width, (first + unit) % width
            weights = tf.gather(table, slots[tree] * width + row)
            outputs += x[first + unit][:, None] * weights
        return outputs

    full, rest = divmod(trees * width, UNITS)
    outputs = tf.zeros((tf.shape(inputs)[0], units), inputs.dtype)
    _, outputs = tf.while_loop(
        lambda i, y: i < full,
        lambda i, y: (i + 1, step(i * UNITS, UNITS, y)),
        (tf.constant(0), outputs),
        maximum_iterations=full,
    )
    return step(full * UNITS, rest, outputs)


def _gradient_of_inputs(dy, sums, slots):
    trees = slots.shape[0]
    found = tf.zeros((trees, tf.shape(dy)[0], sums.shape[1]), dy.dtype)

    def body(g, found):
        kernels = tf.gather(sums, slots[g])
        new = tf.einsum("bwq,bq->bw", kernels, dy)
        return g + 1, tf.tensor_scatter_nd_update(found, [[g]], new[None])

    _, found = tf.while_loop(
        lambda g, _: g < trees,
        body,
        (tf.constant(0), found),
        maximum_iterations=trees,
    )
    return tf.transpose(found, (1, 0, 2))


def _gradient_of_sums(inputs, dy, slots, sums):
    trees = slots.shape[0]
    x = tf.transpose(inputs, (1, 0, 2))
    found = tf.zeros_like(sums)

    def body(g, found):
        new = x[g][:, :, None] * dy[:, None, :]
        return g + 1, tf.tensor_scatter_nd_add(found, slots[g][:, None], new)

    _, found = tf.while_loop(
        lambda g, _: g < trees,
        body,
        (tf.constant(0), found),
        maximum_iterations=trees,
    )
    return found
