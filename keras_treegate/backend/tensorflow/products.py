"""Path products under TensorFlow, without an array (B, P, Q).

TensorFlow's own kernels do one pass over memory for each operation, and take
the gradient of a gather an element at a time. So these are compiled by XLA, on
CPU too.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_treegate.backend.common import reference, xla_loops
from keras_treegate.backend.tensorflow.compiling import compiled
from keras_treegate.backend.tensorflow.in_place import InPlace
from keras_treegate.core.numerics import at_least_float32
from keras_treegate.types import Tensor

# The way a product is computed, and why.
PRODUCT = (
    "compiled by XLA, a loop over the input units, eight at a time, into "
    "outputs that stay in cache; eagerly, if small, a gather and an einsum, "
    "for which nothing is compiled"
)

# A product of so few numbers is not worth compiling where no graph is made.
SMALL = 2**22


def path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes `reference.path_product`."""
    if tf.executing_eagerly():
        batch, trees, width = inputs.shape
        if batch * trees * width * sums.shape[2] < SMALL:
            return reference.path_product(inputs, sums, positions)
    return compiled(_product, eagerly=True, by_xla=False)(
        inputs, sums, positions
    )


# Runs only in a graph that is made once, because TensorFlow keeps each for
# ever. That graph is not XLA's, which would compute a gradient that no one asks
# for.
@tf.custom_gradient
def _product(
    inputs: Tensor, sums: Tensor, positions: Tensor
) -> tuple[Tensor, Callable[..., tuple[Tensor | None, ...]]]:
    def gradient(outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs_gradient = compiled(_of_inputs)(outputs, sums, positions)
        inputs_gradient = tf.ensure_shape(inputs_gradient, inputs.shape)
        if not sums.dtype.is_floating:
            return inputs_gradient, None, None
        sums_gradient = compiled(_gradient_of_sums)(
            inputs, outputs, sums, positions
        )
        return inputs_gradient, sums_gradient, None

    return compiled(_by_units)(inputs, sums, positions), gradient


def product_in_place(
    inputs: Tensor, table: tf.Variable, positions: Tensor
) -> Tensor:
    """Computes the product with a constant table of a graph, without a copy."""
    in_place = InPlace.of(table)
    outputs = compiled(_by_units_of)(inputs, in_place, positions)
    # Separate, because XLA would compute a gradient that no one asks for.
    return compiled(_with_gradient, by_xla=False)(
        tf.stop_gradient(outputs), inputs, *in_place, positions
    )


def _by_units_of(inputs: Tensor, table: InPlace, positions: Tensor) -> Tensor:
    return _by_units(inputs, table.all_rows(), positions)


@tf.custom_gradient
def _with_gradient(
    outputs: Tensor,
    inputs: Tensor,
    handle: Tensor,
    like: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Callable[..., tuple[Tensor | None, ...]]]:
    """Returns outputs whose gradient goes to the inputs of their product."""

    def gradient(outputs: Tensor) -> tuple[Tensor | None, ...]:
        table = InPlace(handle, like)
        of_inputs = compiled(_of_inputs_of)(outputs, table, positions)
        of_inputs = tf.ensure_shape(of_inputs, inputs.shape)
        return None, of_inputs, None, None, None

    return tf.identity(outputs), gradient


def _of_inputs_of(
    gradient: Tensor, table: InPlace, positions: Tensor
) -> Tensor:
    return _of_inputs(gradient, table.all_rows(), positions)


def _of_inputs(gradient: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Returns `_gradient_of_inputs`, of an example more in an empty batch.

    XLA cannot set a part of an array that has no numbers, not even in a branch
    of a conditional that is never taken.
    """
    batch = tf.shape(gradient)[0]
    added = tf.cast(batch == 0, batch.dtype)
    gradient = tf.pad(gradient, [[0, added], [0, 0]])
    positions = tf.pad(positions, [[0, 0], [0, added]])
    return _gradient_of_inputs(gradient, sums, positions)[:batch]


def _by_units(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes the product, a few input units of all examples at a time."""
    _, trees, width = inputs.shape
    units, dtype = sums.shape[2], inputs.dtype
    inputs = tf.cast(inputs, at_least_float32(inputs))
    table = tf.reshape(sums, (-1, units))  # (G * U * W, Q)
    columns = tf.transpose(tf.reshape(inputs, (-1, trees * width)))  # (G W, B)

    def step(first: Tensor, count: int, outputs: Tensor) -> Tensor:
        for unit in range(count):
            ids = xla_loops.rows_of_unit(first + unit, positions, width)
            weights = tf.gather(table, ids)
            weights = tf.cast(weights, inputs.dtype)
            outputs += columns[first + unit][:, None] * weights
        return outputs

    size = xla_loops.UNITS_PER_STEP
    full, rest = divmod(trees * width, size)
    outputs = tf.zeros((tf.shape(inputs)[0], units), inputs.dtype)
    outputs = _loop(full, lambda n, y: step(n * size, size, y), outputs)
    return tf.cast(step(full * size, rest, outputs), dtype)


def _gradient_of_inputs(
    gradient: Tensor, sums: Tensor, positions: Tensor
) -> Tensor:
    """Returns (B, G, W), given the gradient (B, Q) of the outputs; by units."""
    trees, (width, units) = positions.shape[0], sums.shape[1:]
    dtype = gradient.dtype
    gradient = tf.cast(gradient, at_least_float32(gradient))
    lanes = xla_loops.lanes(units)
    if not lanes:
        return tf.cast(_gradient_by_trees(gradient, sums, positions), dtype)
    terms = units // lanes
    parts = tf.reshape(sums, (-1, lanes))
    batch = tf.shape(gradient)[0]
    gradient = tf.reshape(gradient, (batch, terms, lanes))

    def step(unit: Tensor, inputs_gradient: Tensor) -> Tensor:
        ids = xla_loops.rows_of_unit(unit, positions, width) * terms
        new = tf.zeros((batch, lanes), gradient.dtype)
        for term in range(terms):
            rows = tf.cast(tf.gather(parts, ids + term), gradient.dtype)
            new += rows * gradient[:, term]
        new = tf.linalg.matvec(new, tf.ones(lanes, gradient.dtype))
        return tf.tensor_scatter_nd_update(inputs_gradient, [[unit]], new[None])

    inputs_gradient = tf.zeros((trees * width, batch), gradient.dtype)
    inputs_gradient = tf.cast(
        _loop(trees * width, step, inputs_gradient), dtype
    )
    return tf.reshape(tf.transpose(inputs_gradient), (batch, trees, width))


def _gradient_by_trees(
    gradient: Tensor, sums: Tensor, positions: Tensor
) -> Tensor:
    """Returns the same for rows that are not added up in lanes; by trees."""
    trees = positions.shape[0]

    def step(tree: Tensor, inputs_gradient: Tensor) -> Tensor:
        kernels = tf.cast(tf.gather(sums, positions[tree]), gradient.dtype)
        new = tf.einsum("bwq,bq->bw", kernels, gradient)
        return tf.tensor_scatter_nd_update(inputs_gradient, [[tree]], new[None])

    shape = (trees, tf.shape(gradient)[0], sums.shape[1])
    inputs_gradient = _loop(trees, step, tf.zeros(shape, gradient.dtype))
    return tf.transpose(inputs_gradient, (1, 0, 2))


def _gradient_of_sums(
    inputs: Tensor, gradient: Tensor, sums: Tensor, positions: Tensor
) -> Tensor:
    """Returns (R, W, Q), given the gradient (B, Q); by blocks of a tree."""
    trees, (width, units) = positions.shape[0], sums.shape[1:]
    batch, dtype = tf.shape(gradient)[0], at_least_float32(inputs)
    inputs, gradient = tf.cast(inputs, dtype), tf.cast(gradient, dtype)
    most = max(1, xla_loops.ADDED_PER_STEP // (width * units))
    blocks = tf.maximum(1, -(-batch // most))
    size = -(-batch // blocks)
    rest = [0, blocks * size - batch]  # padding: zeros, for the first position
    inputs = tf.pad(tf.transpose(inputs, (1, 0, 2)), [[0, 0], rest, [0, 0]])
    gradient = tf.pad(gradient, [rest, [0, 0]])
    positions = tf.pad(positions, [[0, 0], rest])

    def step(number: Tensor, sums_gradient: Tensor) -> Tensor:
        tree, first = number // blocks, number % blocks * size
        x = tf.slice(inputs, [tree, first, 0], [1, size, width])
        dy = tf.slice(gradient, [first, 0], [size, units])
        ids = tf.slice(positions, [tree, first], [1, size])
        new = x[0][:, :, None] * dy[:, None, :]
        return tf.tensor_scatter_nd_add(sums_gradient, ids[0][:, None], new)

    sums_gradient = _loop(trees * blocks, step, tf.zeros(tf.shape(sums), dtype))
    return tf.cast(sums_gradient, sums.dtype)


def _loop(
    count: Tensor | int, step: Callable[..., Tensor], carry: Tensor
) -> Tensor:
    """Calls `step(number, carry)` for each number below a count."""
    if isinstance(count, int) and count == 0:
        return carry
    _, carry = tf.while_loop(
        lambda number, _: number < count,
        lambda number, carry: (number + 1, step(number, carry)),
        (tf.constant(0), carry),
        maximum_iterations=count,
    )
    return carry
