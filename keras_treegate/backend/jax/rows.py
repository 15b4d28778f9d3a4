"""Row gradients under JAX.

The backward pass of `take_rows` returns the true dense gradient, a scatter, and
records the rows it was made of under the identity of that array. An optimizer
that finds the record never uses the scatter, and XLA removes it. Where anything
happened to the gradient in between (a sum of two uses, an inner `jit`, `vmap`
or `remat`), no record is found and the dense gradient is used, which is right.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.sparse import JAXSparse

from keras_treegate.backend.common.row_gradient import (
    RowGradient,
    RowRecords,
    key_of,
)
from keras_treegate.backend.jax.devices import may_be_split
from keras_treegate.core import decay
from keras_treegate.core.rows import TableVariables
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")

# An optimizer can write only its own variables and trainable ones here.
DECAY_STATE_IS_TRAINABLE = True


records = RowRecords()

# Traces of `jax.grad` and the like.
GRADIENT_TRACES = ("JVPTrace", "LinearizeTrace")

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


def recorded(gradient: RowGradient, key: int) -> Tensor:
    """Returns the dense gradient of a table, and records its rows."""
    rows = gradient.rows
    dense = jnp.zeros((gradient.num_rows, *rows.shape[1:]), rows.dtype)
    dense = dense.at[gradient.ids].set(rows, **PROMISES)
    records.add(dense, key, gradient)
    return dense


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _take_rows(table: Tensor, ids: Tensor, num_rows: int, key: int) -> Tensor:
    return rows_at(table, ids)


def _forward(
    table: Tensor, ids: Tensor, num_rows: int, key: int
) -> tuple[Tensor, Tensor]:
    return _take_rows(table, ids, num_rows, key), ids


def _backward(
    num_rows: int, key: int, ids: Tensor, rows: Tensor
) -> tuple[Tensor, None]:
    return recorded(RowGradient(ids, rows, num_rows), key), None


_take_rows.defvjp(_forward, _backward)


def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
    return _take_rows(variable.value, ids, variable.shape[0], key_of(variable))


def as_row_gradient(
    gradient: Tensor, variable: Variable
) -> tuple[Tensor | RowGradient, str | None]:
    record, passes = records.find(gradient, key_of(variable))
    if record is not None:
        return record, None
    if passes == 0:
        return gradient, None
    if passes > 1:
        return gradient, (
            f"its layer is used {passes} times, and JAX adds the gradients"
        )
    return gradient, (
        "something came between the backward pass and the optimizer (an inner "
        "jit, vmap, scan or remat, a stock LossScaleOptimizer, a use of the "
        "whole table beside that of its rows, or arithmetic on the gradient)"
    )


def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
    return variable.value if ids is None else rows_at(variable.value, ids)


def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
    if ids is None:
        rows = table.values.value
    else:
        rows = take_rows(table.values, ids, table.as_rows)
    return decay.read(rows, owed_decay(table.clock, table.stamps, ids))


@partial(jax.jit, donate_argnums=0)
def _written(table: Tensor, start: Tensor, rows: Tensor) -> Tensor:
    return jax.lax.dynamic_update_slice_in_dim(table, rows, start, axis=0)


def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
    # Donates the table, so that it is written in place.
    rows = rows.astype(variable.dtype)
    variable.assign(_written(variable.value, start, rows))


@partial(jax.jit, static_argnums=2)
def sums_at(leaves: Tensor, slots: Tensor, num_slots: int) -> Tensor:
    """Returns sums (num_slots, W, Q): `sums[slots[i]] += leaves[i]`."""
    zeros = jnp.zeros((num_slots, *leaves.shape[1:]), leaves.dtype)
    return zeros.at[slots].add(leaves, mode="promise_in_bounds")


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


read_clock = decay.read_clock


def owed_decay(clock: Variable, stamps: Variable, ids: Tensor | None) -> Tensor:
    now, then = decay_state(clock, stamps)
    return decay.owed(now, then if ids is None else rows_at(then, ids))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _watched(tensor: Tensor, check: Callable[[], None]) -> Tensor:
    return tensor


def _watched_forward(
    tensor: Tensor, check: Callable[[], None]
) -> tuple[Tensor, None]:
    return tensor, None


def _watched_backward(
    check: Callable[[], None], _: None, gradient: Tensor
) -> tuple[Tensor]:
    check()
    return (gradient,)


_watched.defvjp(_watched_forward, _watched_backward)


def watch(
    tensor: Tensor, variable: Variable, check: Callable[[], None] | None
) -> Tensor:
    return tensor if check is None else _watched(tensor, check)


def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
    # A plain array has no gradient, and a tracer is known by its trace.
    return not any(isinstance(x, jax.core.Tracer) for x in (tensor, other))


def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
    try:
        jnp.negative(tensor)
    except jax.errors.UnexpectedTracerError:
        return False
    return True


def is_dense(value: object) -> bool:
    return not isinstance(value, JAXSparse)


def _staged_by(tensor: Tensor) -> list[object]:
    """Returns the traces that a tensor is of, without those of gradients.

    Traces of gradients pass on the value that they differentiate; of all others
    (a jit, a loop, vmap) nothing may outlive the function that they trace.
    """
    staging = []
    trace = getattr(tensor, "_trace", None)
    while trace is not None:
        if type(trace).__name__ not in GRADIENT_TRACES:
            staging.append(trace)
        trace = getattr(trace, "parent_trace", None)
    return staging


def can_assign(variable: Variable, tensor: Tensor) -> bool:
    value = variable.value
    if not isinstance(value, jax.core.Tracer):
        return True  # outside of a step, or where Keras drops the new value
    known = _staged_by(value)
    return all(
        any(trace is other for other in known) for trace in _staged_by(tensor)
    )


def assign_in_step(variable: Variable, value: Tensor) -> None:
    if not can_assign(variable, value):
        return
    is_traced = isinstance(value, jax.core.Tracer)
    if is_traced and not isinstance(variable.value, jax.core.Tracer):
        return  # in a `jit` or `grad` that does not know the variable
    variable.assign(value)


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    return function
