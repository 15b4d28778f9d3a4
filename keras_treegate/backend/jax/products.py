"""Path products under JAX, without an array (B, P, Q).

XLA on CPU makes one loop of a few gathers and multiply-adds into an array that
stays in cache, and one of a scatter whose updates are a cheap product. So these
walk the input units, or trees and blocks of examples, in a loop of small steps.
On accelerators each step takes as much as memory allows.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from keras_treegate.backend.common import reference, xla_loops
from keras_treegate.backend.jax.devices import on_every_device
from keras_treegate.backend.jax.rows import cast_by_row, row_at, rows_at, steps
from keras_treegate.core.numerics import at_least_float32
from keras_treegate.types import Tensor

# The start and size of a part of an axis.
Part: TypeAlias = tuple[Tensor, int]

# The way a product is computed, and why.
PRODUCT = (
    "on CPU a loop over the input units, eight at a time, into outputs that "
    "stay in cache; elsewhere blocks of trees and examples, as large as "
    "128 MB hold, for few launches"
)

# The numbers of kernels that one step of a loop holds, by platform: on CPU as
# many as stay in cache, more where they are read than where they are added up.
INPUTS_BLOCK = {"cpu": 2**17, "default": 2**25}
SUMS_BLOCK = {"cpu": xla_loops.ADDED_PER_STEP, "default": 2**25}


def path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes `reference.path_product`."""
    if not isinstance(inputs.shape[0], int):  # symbolic, unfit for steps
        return reference.path_product(inputs, sums, positions)
    return _path_product(inputs, sums, positions)


@jax.custom_vjp
def _path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    return _product(inputs, sums, positions)


@jax.jit
def _product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    outputs = jax.lax.platform_dependent(
        inputs, sums, positions, cpu=product_by_units, default=product_by_blocks
    )
    return outputs.astype(inputs.dtype)


def _forward(
    inputs: Tensor, sums: Tensor, positions: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    return _product(inputs, sums, positions), (inputs, sums, positions)


def _backward(
    saved: tuple[Tensor, Tensor, Tensor], gradient: Tensor
) -> tuple[Tensor, Tensor | None, None]:
    inputs, sums, positions = saved
    # A row is a product of two vectors, which take fewer bytes to gather.
    factors = on_every_device(inputs, gradient, positions)
    return _gradients(inputs, sums, positions, gradient, factors)


@jax.jit
def _gradients(
    inputs: Tensor,
    sums: Tensor,
    positions: Tensor,
    gradient: Tensor,
    factors: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor | None, None]:
    inputs_gradient = jax.lax.platform_dependent(
        *(gradient, sums, positions),
        cpu=gradient_of_inputs_by_units,
        default=gradient_of_inputs_by_blocks,
    )
    inputs_gradient = inputs_gradient.astype(inputs.dtype)
    if not jnp.issubdtype(sums.dtype, jnp.floating):
        return inputs_gradient, None, None
    sums_gradient = partial(gradient_of_sums, num_positions=len(sums))
    sums_gradient = jax.lax.platform_dependent(
        *factors,
        **{
            name: partial(sums_gradient, block=block)
            for name, block in SUMS_BLOCK.items()
        },
    )
    return inputs_gradient, sums_gradient.astype(sums.dtype), None


_path_product.defvjp(_forward, _backward)


def product_by_units(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes the product, a few input units of all examples at a time."""
    batch, trees, width = inputs.shape
    table = sums.reshape(len(sums) * width, sums.shape[2])  # (G * U * W, Q)
    inputs = inputs.reshape(batch, trees * width).T  # (G * W, B)
    dtype = at_least_float32(inputs)

    def step(first: Tensor, count: int, outputs: Tensor) -> Tensor:
        for unit in range(count):
            number = first + unit
            ids = xla_loops.rows_of_unit(number, positions, width, row_at)
            weights = rows_at(table, ids, distinct=False).astype(dtype)
            outputs += row_at(inputs, number)[:, None].astype(dtype) * weights
        return outputs

    outputs = jnp.zeros((batch, sums.shape[-1]), dtype)
    return steps(step, trees * width, xla_loops.UNITS_PER_STEP, outputs)


def product_by_blocks(
    inputs: Tensor,
    sums: Tensor,
    positions: Tensor,
    block: int = INPUTS_BLOCK["default"],
) -> Tensor:
    """Computes the product, a block of trees and examples at a time."""
    dtype = at_least_float32(inputs)

    def step(trees: Part, examples: Part, outputs: Tensor) -> Tensor:
        kernels = _kernels(sums, _part(positions, trees, examples), dtype)
        x = _part(inputs, examples, trees)
        new = jnp.einsum(
            "bgw,gbwq->bq", x, kernels, preferred_element_type=dtype
        )
        new += jax.lax.dynamic_slice_in_dim(outputs, *examples)
        return jax.lax.dynamic_update_slice_in_dim(outputs, new, examples[0], 0)

    outputs = jnp.zeros((len(inputs), sums.shape[-1]), dtype)
    return _blocks(step, positions.shape, sums.shape[1:], block, outputs)


def gradient_of_inputs_by_units(
    gradient: Tensor, sums: Tensor, positions: Tensor
) -> Tensor:
    """Returns (B, G, W), given the gradient of the outputs (B, Q)."""
    width, units = sums.shape[1:]
    lanes = xla_loops.lanes(units)
    if not lanes:
        return gradient_of_inputs_by_blocks(
            gradient, sums, positions, INPUTS_BLOCK["cpu"]
        )
    dtype = at_least_float32(gradient)
    trees, batch = positions.shape
    # Reshaped as in the forward pass, or XLA would make the sums twice.
    table = sums.reshape(len(sums) * width, units)
    gradient = gradient.astype(dtype)

    def step(unit: Tensor, _: int, inputs_gradient: Tensor) -> Tensor:
        ids = xla_loops.rows_of_unit(unit, positions, width, row_at)
        new = jnp.zeros((batch, lanes), dtype)
        for start in range(0, units, lanes):
            rows = _parts_of_rows(table, ids, start, lanes).astype(dtype)
            new += rows * gradient[:, start : start + lanes]
        new = new @ jnp.ones(lanes, dtype)
        return jax.lax.dynamic_update_slice_in_dim(
            inputs_gradient, new[None], unit, 0
        )

    inputs_gradient = jnp.zeros((trees * width, batch), dtype)
    inputs_gradient = steps(step, trees * width, 1, inputs_gradient)
    return inputs_gradient.T.reshape(batch, trees, width)


def _parts_of_rows(table: Tensor, ids: Tensor, start: int, size: int) -> Tensor:
    """Returns `table[ids, start : start + size]`."""
    table, ids = cast_by_row(table, ids)
    starts = jnp.full_like(ids, start)
    return jax.lax.gather(
        table,
        jnp.stack([ids, starts], axis=1),
        jax.lax.GatherDimensionNumbers(
            offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0, 1)
        ),
        slice_sizes=(1, size),
        mode="promise_in_bounds",
    )


def gradient_of_inputs_by_blocks(
    gradient: Tensor,
    sums: Tensor,
    positions: Tensor,
    block: int = INPUTS_BLOCK["default"],
) -> Tensor:
    """Returns (B, G, W), given the gradient of the outputs (B, Q)."""
    dtype = at_least_float32(gradient)

    def step(trees: Part, examples: Part, inputs_gradient: Tensor) -> Tensor:
        kernels = _kernels(sums, _part(positions, trees, examples), dtype)
        dy = jax.lax.dynamic_slice_in_dim(gradient, *examples)
        if len(kernels) == 1:  # avoids a slow reduction that XLA makes
            kernels = kernels[0]
        new = jnp.einsum(
            "...bwq,bq->...bw", kernels, dy, preferred_element_type=dtype
        ).reshape(trees[1], *kernels.shape[-3:-1])
        start = (trees[0], examples[0], 0)
        return jax.lax.dynamic_update_slice(inputs_gradient, new, start)

    inputs_gradient = jnp.zeros((*positions.shape, sums.shape[1]), dtype)
    inputs_gradient = _blocks(
        step, positions.shape, sums.shape[1:], block, inputs_gradient
    )
    return jnp.swapaxes(inputs_gradient, 0, 1)


def gradient_of_sums(
    inputs: Tensor,
    gradient: Tensor,
    positions: Tensor,
    num_positions: int,
    block: int,
) -> Tensor:
    """Returns (R, W, Q), given the gradient of the outputs (B, Q)."""
    kernel = (inputs.shape[2], gradient.shape[1])
    dtype = at_least_float32(gradient)

    def step(trees: Part, examples: Part, sums_gradient: Tensor) -> Tensor:
        x = jnp.swapaxes(_part(inputs, examples, trees), 0, 1).astype(dtype)
        dy = jax.lax.dynamic_slice_in_dim(gradient, *examples).astype(dtype)
        new = x[..., None] * dy[None, :, None]  # (trees, examples, W, Q)
        ids = _part(positions, trees, examples).reshape(-1)
        new = new.reshape(len(ids), *kernel)
        return sums_gradient.at[ids].add(
            new, mode="promise_in_bounds", wrap_negative_indices=False
        )

    sums_gradient = jnp.zeros((num_positions, *kernel), dtype)
    return _blocks(step, positions.shape, kernel, block, sums_gradient)


def _kernels(sums: Tensor, positions: Tensor, dtype: str) -> Tensor:
    """Returns sums (trees, examples, W, Q) at positions (trees, examples)."""
    rows = rows_at(sums, positions.reshape(-1), distinct=False).astype(dtype)
    return rows.reshape(*positions.shape, *sums.shape[1:])


def _part(table: Tensor, first: Part, second: Part) -> Tensor:
    """Returns a part of a table by (start, size) of its first two axes."""
    table = jax.lax.dynamic_slice_in_dim(table, *first, axis=0)
    return jax.lax.dynamic_slice_in_dim(table, *second, axis=1)


def _blocks(
    step: Callable[[Part, Part, Tensor], Tensor],
    shape: tuple[int, int],
    kernel: tuple[int, int],
    block: int,
    carry: Tensor,
) -> Tensor:
    """Walks the trees and examples (G, B) in blocks that hold so many numbers.

    `step` is called with a (start, size) of the trees, one of the examples, and
    the value that it returned last.
    """
    trees, batch = shape
    kernels = max(1, block // math.prod(kernel))

    def of_trees(first: Tensor, count: int, carry: Tensor) -> Tensor:
        def of_examples(
            example: Tensor, examples: int, carry: Tensor
        ) -> Tensor:
            return step((first, count), (example, examples), carry)

        return steps(of_examples, batch, kernels, carry)

    return steps(of_trees, trees, kernels // max(1, batch), carry)
