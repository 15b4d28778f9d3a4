"""Rows of tables under JAX: read, summed and written, with their decay."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.sparse import JAXSparse

from keras_treegate.backend.jax.devices import may_be_split
from keras_treegate.core import decay
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")


# An optimizer can write only its own variables and trainable ones here.
DECAY_STATE_IS_TRAINABLE = True

# The numbers of rows that a loop over many rows has at hand.
CHUNK = 2**16

# The properties of all ids.
PROMISES: dict[str, str | bool] = {
    "mode": "promise_in_bounds",
    "unique_indices": True,
    "indices_are_sorted": True,
}


def rows_at(table: Tensor, ids: Tensor, distinct: bool = True) -> Tensor:
    """Returns rows of a table; ids may repeat if not `distinct`.

    They are taken as rows of a matrix and without the check for negative ids
    that `table[ids]` makes, because XLA on CPU is several times faster at that.
    But a table that is split along its last axis has no parts of such a matrix,
    and would be gathered whole on every device.
    """
    return _rows_at(table, ids, distinct, not may_be_split())


@partial(jax.jit, static_argnames=("distinct", "as_matrix"))
def _rows_at(
    table: Tensor, ids: Tensor, distinct: bool, as_matrix: bool
) -> Tensor:
    # The `jit` is for eager use, where the reshape alone would copy the table.
    promises = PROMISES if distinct else {"mode": "promise_in_bounds"}
    table, ids = cast_by_row(table, ids)
    if not as_matrix:
        axes = tuple(range(1, table.ndim))
        return jax.lax.gather(
            table,
            ids[:, None],
            jax.lax.GatherDimensionNumbers(
                offset_dims=axes,
                collapsed_slice_dims=(0,),
                start_index_map=(0,),
            ),
            slice_sizes=(1, *table.shape[1:]),
            **promises,
        )
    rows = jax.lax.gather(
        table.reshape(table.shape[0], math.prod(table.shape[1:])),
        ids[:, None],
        jax.lax.GatherDimensionNumbers(
            offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)
        ),
        slice_sizes=(1, math.prod(table.shape[1:])),
        **promises,
    )
    return rows.reshape(len(ids), *table.shape[1:])


def row_at(table: Tensor, number: Tensor) -> Tensor:
    """Returns one row of an array."""
    return table.at[number].get(
        mode="promise_in_bounds", wrap_negative_indices=False
    )


def with_rows(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """Returns a table with other rows at distinct ids."""
    return table.at[ids].set(rows, wrap_negative_indices=False, **PROMISES)


def cast_by_row(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both; keeps a loop that gathers the ids from a cast of the table.

    XLA on CPU gathers float32, and would cast a table of bfloat16 as a whole
    before the loop, because it is the same in each step. What depends on the
    ids is not, and is cast where it is gathered.
    """
    if table.dtype != jnp.bfloat16:
        return table, ids
    return jax.lax.optimization_barrier((table, ids))


def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
    return variable.value if ids is None else rows_at(variable.value, ids)


@partial(jax.jit, donate_argnums=0)
def _written(table: Tensor, start: Tensor, rows: Tensor) -> Tensor:
    return jax.lax.dynamic_update_slice_in_dim(table, rows, start, axis=0)


def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
    # Donates the table, so that it is written in place.
    rows = rows.astype(variable.dtype)
    variable.assign(_written(variable.value, start, rows))


@partial(jax.jit, static_argnums=2)
def sums_at(leaves: Tensor, positions: Tensor, num_positions: int) -> Tensor:
    """Returns sums (num_positions, W, Q): `sums[positions[i]] += leaves[i]`."""
    zeros = jnp.zeros((num_positions, *leaves.shape[1:]), leaves.dtype)
    return zeros.at[positions].add(
        leaves, mode="promise_in_bounds", wrap_negative_indices=False
    )


def steps(
    step: Callable[..., Tensor], count: int, size: int, carry: Tensor
) -> Tensor:
    """Calls `step(first, size, carry)` for one part after the other.

    No part has a size of one unless `size` or `count` is one, for the reason
    that `updates.of_two_rows` gives.
    """
    size = max(1, min(size, count))
    full, rest = divmod(count, size)
    if rest == 1 and full:
        full, rest = full - 1, size + 1
    if full == 1:
        carry = step(0, size, carry)
    elif full:
        carry = jax.lax.fori_loop(
            0, full, lambda number, x: step(number * size, size, x), carry
        )
    return step(full * size, rest, carry) if rest else carry


def decay_state(clock: Variable, stamps: Variable) -> tuple[Tensor, Tensor]:
    """Returns the values of two variables, whose gradients are zero.

    A stock optimizer overwrites the variables with these gradients, and has
    settled the level before it does.
    """
    return jax.lax.stop_gradient((clock.value, stamps.value))


read_clocks = decay.read_clocks


def owed_decay(clock: Variable, stamps: Variable, ids: Tensor | None) -> Tensor:
    now, then = decay_state(clock, stamps)
    return decay.owed(now, then if ids is None else rows_at(then, ids))


def is_dense(value: object) -> bool:
    return not isinstance(value, JAXSparse)


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    return function
