"""Row gradients under JAX.

The backward pass of `take_rows` returns the true dense gradient, a scatter, and
records the rows it was made of under the identity of that array. An optimizer
that finds the record never uses the scatter, and XLA removes it. Where anything
happened to the gradient in between (a sum of two uses, an inner `jit`, `vmap`
or `remat`), no record is found and the dense gradient is used, which is right.
"""

import math
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from keras_treegate import decay
from keras_treegate.backend.row_gradient import RowGradient

# An optimizer can write only its own variables and trainable ones here.
DECAY_STATE_IS_TRAINABLE = True


class _Records:
    """Rows of living gradients; a record goes when its gradient does."""

    def __init__(self) -> None:
        self._records: dict[int, tuple] = {}
        self._backward_passes: dict[int, int] = {}
        # A gradient can be collected, and its record with it, while it is held.
        self._lock = threading.RLock()

    def add(self, gradient: Any, table: int, ids: Any, rows: Any) -> None:
        key = id(gradient)

        def forget(reference: Any) -> None:
            with self._lock:
                if key in self._records and self._records[key][0] is reference:
                    del self._records[key]

        with self._lock:
            self._records[key] = (weakref.ref(gradient, forget), ids, rows)
            passes = self._backward_passes.get(table, 0)
            self._backward_passes[table] = passes + 1

    def find(self, gradient: Any, table: int) -> tuple[tuple | None, int]:
        """The ids and rows of a gradient, and how often rows were recorded.

        The count is of the table, and since it was last asked for.
        """
        with self._lock:
            record = self._records.get(id(gradient))
            passes = self._backward_passes.pop(table, 0)
        if record is None or record[0]() is not gradient:
            return None, passes
        return record[1:], passes

    def __len__(self) -> int:
        return len(self._records)


records = _Records()

# The numbers of a table that an optimizer updates at a time.
CHUNK = 2**16

# What is known of all ids.
_PROMISES: dict = {
    "mode": "promise_in_bounds",
    "unique_indices": True,
    "indices_are_sorted": True,
}


def _rows_at(table: Any, ids: Any) -> Any:
    """The rows of a table at its first axis.

    As rows of a matrix and without the check for negative ids that `table[ids]`
    makes: XLA on CPU is several times faster at it.
    """
    rows = jax.lax.gather(
        table.reshape(table.shape[0], -1),
        ids[:, None],
        jax.lax.GatherDimensionNumbers(
            offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)
        ),
        slice_sizes=(1, math.prod(table.shape[1:])),
        **_PROMISES,
    )
    return rows.reshape(-1, *table.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _take_rows(table: Any, ids: Any, num_rows: int, key: int) -> Any:
    return _rows_at(table, ids)


def _forward(table: Any, ids: Any, num_rows: int, key: int) -> tuple:
    return _take_rows(table, ids, num_rows, key), ids


def _backward(num_rows: int, key: int, ids: Any, rows: Any) -> tuple:
    dense = jnp.zeros((num_rows, *rows.shape[1:]), rows.dtype)
    dense = dense.at[ids].set(rows, **_PROMISES)
    records.add(dense, key, ids, rows)
    return dense, None


_take_rows.defvjp(_forward, _backward)


def take_rows(variable: Any, ids: Any, as_rows: bool) -> Any:
    return _take_rows(variable.value, ids, variable.shape[0], id(variable))


def lift(gradient: Any, variable: Any) -> tuple[Any, str | None]:
    record, passes = records.find(gradient, id(variable))
    if record is not None:
        return RowGradient(record[0], record[1], variable.shape[0]), None
    if passes == 0:
        return gradient, None
    if passes > 1:
        return gradient, (
            f"its layer is used {passes} times, and JAX adds the gradients"
        )
    return gradient, (
        "something came between the backward pass and the optimizer (an inner "
        "jit, vmap, scan or remat, a stock LossScaleOptimizer, or arithmetic "
        "on the gradient)"
    )


# Outside of a trace, `reshape` alone would copy the table.
_rows_of_array = jax.jit(_rows_at)


def read_rows(variable: Any, ids: Any) -> Any:
    table = variable.value
    if ids is None:
        return table
    traced = isinstance(table, jax.core.Tracer)
    return _rows_at(table, ids) if traced else _rows_of_array(table, ids)


def update_rows(
    variables: list, ids: Any, gradient: Any, update: Callable
) -> None:
    values = [variable.value for variable in variables]
    if ids is None:
        values = update(values, gradient)
    else:
        values = _updated(values, ids, gradient, update)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.astype(variable.dtype))


@partial(jax.jit, donate_argnums=0)
def _written(table: Any, start: Any, rows: Any) -> Any:
    return jax.lax.dynamic_update_slice_in_dim(table, rows, start, axis=0)


def write_rows(variable: Any, start: int, rows: Any) -> None:
    # With the table donated: it is written in place.
    rows = rows.astype(variable.dtype)
    variable.assign(_written(variable.value, start, rows))


def _updated(tables: list, ids: Any, gradient: Any, update: Callable) -> list:
    """The tables with their rows `ids` updated, a chunk of rows at a time.

    What is computed for a chunk stays in cache, and takes no memory of its own
    for each table and level.
    """

    def step(tables: list, ids: Any, gradient: Any) -> list:
        new = update([_rows_at(table, ids) for table in tables], gradient)
        # `set` and not `add`: a sharded table is then not all-reduced.
        return [
            table.at[ids].set(rows.astype(table.dtype), **_PROMISES)
            for table, rows in zip(tables, new, strict=True)
        ]

    size = max(1, CHUNK // math.prod(gradient.shape[1:]))
    chunks, rest = divmod(ids.shape[0], size)
    if chunks < 2:
        return step(tables, ids, gradient)

    def body(chunk: Any, tables: list) -> list:
        part = partial(
            jax.lax.dynamic_slice_in_dim,
            start_index=chunk * size,
            slice_size=size,
        )
        return step(tables, part(ids), part(gradient))

    tables = jax.lax.fori_loop(0, chunks, body, tables)
    if rest:
        tables = step(tables, ids[-rest:], gradient[-rest:])
    return tables


# The tracers of the clocks that a gradient of their own was asked for.
_clocks_in_use: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


@jax.custom_vjp
def _owed_decay(clock: Any, stamps: Any, ids: Any) -> Any:
    return decay.owed(clock, stamps if ids is None else _rows_at(stamps, ids))


def _owed_forward(clock: Any, stamps: Any, ids: Any) -> tuple:
    return _owed_decay(clock, stamps, ids), (clock, stamps)


def _owed_backward(values: tuple, gradient: Any) -> tuple:
    return (*values, None)


_owed_decay.defvjp(_owed_forward, _owed_backward)


def owed_decay(clock: Any, stamps: Any, ids: Any) -> Any:
    values = clock.value, stamps.value
    if isinstance(values[0], jax.core.Tracer):
        if _clocks_in_use.get(id(clock)) is values[0]:
            # A second use of the layer: gradients add up, one is enough.
            values = jax.lax.stop_gradient(values)
        else:
            _clocks_in_use[id(clock)] = values[0]
    return _owed_decay(*values, ids)
