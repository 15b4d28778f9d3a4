"""Row gradients under JAX.

The backward pass of `take_rows` returns the true dense gradient, a scatter, and
records the rows it was made of under the identity of that array. An optimizer
that finds the record never uses the scatter, and XLA removes it. Where anything
happened to the gradient in between (a sum of two uses, an inner `jit`, `vmap`
or `remat`), no record is found and the dense gradient is used, which is right.
"""

from functools import partial

import jax
import jax.numpy as jnp

from keras_treegate.backend.common.row_gradient import (
    RowGradient,
    RowRecords,
    key_of,
)
from keras_treegate.backend.jax.rows import owed_decay, rows_at, with_rows
from keras_treegate.core import decay
from keras_treegate.core.rows import TableVariables
from keras_treegate.types import Tensor, Variable

records = RowRecords()


def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
    if ids is None:
        rows = table.values.value
    else:
        rows = take_rows(table.values, ids, table.as_rows)
    return decay.read(rows, owed_decay(table.clock, table.stamps, ids))


def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
    return _take_rows(variable.value, ids, variable.shape[0], key_of(variable))


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


def recorded(gradient: RowGradient, key: int) -> Tensor:
    """Returns the dense gradient of a table, and records its rows."""
    rows = gradient.rows
    dense = jnp.zeros((gradient.num_rows, *rows.shape[1:]), rows.dtype)
    dense = with_rows(dense, gradient.ids, rows)
    records.add(dense, key, gradient)
    return dense


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
