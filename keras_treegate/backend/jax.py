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


def read_rows(variable: Any, ids: Any) -> Any:
    if ids is None:
        return variable.value
    return _rows_at(variable.value, ids)


def write_rows(variable: Any, ids: Any, rows: Any) -> None:
    rows = rows.astype(variable.dtype)
    if ids is not None:
        # `set` and not `add`: a sharded table is then not all-reduced.
        rows = variable.value.at[ids].set(rows, **_PROMISES)
    variable.assign(rows)


@jax.custom_vjp
def _owed_decay(clock: Any, stamps: Any, ids: Any) -> Any:
    return decay.owed(clock, stamps if ids is None else _rows_at(stamps, ids))


def _owed_forward(clock: Any, stamps: Any, ids: Any) -> tuple:
    return _owed_decay(clock, stamps, ids), (clock, stamps)


def _owed_backward(values: tuple, gradient: Any) -> tuple:
    return (*values, None)


_owed_decay.defvjp(_owed_forward, _owed_backward)


def owed_decay(clock: Any, stamps: Any, ids: Any) -> Any:
    return _owed_decay(clock.value, stamps.value, ids)
