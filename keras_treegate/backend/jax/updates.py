"""Updates of rows under JAX: of all tables of a step together, in parts."""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from keras_treegate.backend.common.row_gradient import RowGradient, Summands
from keras_treegate.backend.common.row_updates import (
    OptimizerTables,
    SharedUpdate,
    updated_rows,
    updated_tables,
)
from keras_treegate.backend.contract import UpdateRows
from keras_treegate.backend.jax.rows import (
    CHUNK,
    rows_at,
    steps,
    sums_at,
    with_rows,
)
from keras_treegate.types import Tensor, Variable


def outside_of_traces() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def apply_gradients(apply: Callable[..., None], *arguments: Any) -> None:
    apply(*arguments)


@contextlib.contextmanager
def updating_rows() -> Iterator[UpdateRows]:
    """Updates all tables of a step together.

    XLA on CPU runs loops one after the other, but the operations in a loop side
    by side.
    """
    updates: list[_Update] = []

    def update_rows(
        tables: OptimizerTables[Variable],
        gradient: Tensor | RowGradient,
        update: SharedUpdate,
    ) -> None:
        if isinstance(gradient, RowGradient):
            updates.append(_Update(tables, gradient, update))
        else:
            change, old = update.of(gradient), _values(tables)
            _assign(tables, updated_rows(old, change, change.touched))

    yield update_rows
    loops: dict[tuple[int, int], list[_Update]] = {}
    for update in updates:
        loops.setdefault((update.count, update.chunk), []).append(update)
    for together in loops.values():
        _update_together(together)


def _update_together(updates: list["_Update"]) -> None:
    """Makes updates that have equal numbers of rows in one loop."""

    def step(
        first: Tensor, count: int, all_tables: list[OptimizerTables[Tensor]]
    ) -> list[OptimizerTables[Tensor]]:
        return [
            update.updated(tables, first, count)
            for update, tables in zip(updates, all_tables, strict=True)
        ]

    all_tables = [_values(update.tables) for update in updates]
    all_tables = steps(step, updates[0].count, updates[0].chunk, all_tables)
    for update, tables in zip(updates, all_tables, strict=True):
        _assign(update.tables, tables)


def _values(tables: OptimizerTables[Variable]) -> OptimizerTables[Tensor]:
    return tables.with_values(table.value for table in tables.as_list())


def _assign(
    tables: OptimizerTables[Variable], values: OptimizerTables[Tensor]
) -> None:
    for table, value in zip(tables.as_list(), values.as_list(), strict=True):
        table.assign(value.astype(table.dtype))


class _Update:
    """An update of some rows of tables, a chunk at a time.

    Intermediate results of a chunk stay in cache, and take no separate memory
    for each table and level.
    """

    def __init__(
        self,
        tables: OptimizerTables[Variable],
        gradient: RowGradient,
        update: SharedUpdate,
    ) -> None:
        self.tables = tables
        self.gradient, self.own = of_two_rows(gradient)
        self.update = update
        ids, rows, _, summands = self.gradient
        self.count = len(ids)
        self.chunk = max(2, CHUNK // math.prod(rows.shape[1:]))
        if summands is not None:
            per_tree = max(1, self.count // summands.num_trees)
            self.chunk = per_tree * max(1, self.chunk // per_tree)

    def updated(
        self, tables: OptimizerTables[Tensor], first: Tensor, count: int
    ) -> OptimizerTables[Tensor]:
        """Returns the tables after the update of so many rows."""
        ids, rows, _, summands = self.gradient
        part = jax.lax.dynamic_slice_in_dim(ids, first, count)
        if summands is None:
            gradient = jax.lax.dynamic_slice_in_dim(rows, first, count)
        else:
            gradient = _sums(summands, len(ids), first, count)
        change = self.update.of(gradient)
        return updated_tables(
            tables,
            change,
            change.touched,
            read=lambda table: rows_at(table, part),
            write=partial(_written, ids=part, own=self.own),
        )


def _written(
    table: Tensor, rows: Tensor, ids: Tensor, own: Tensor | None
) -> Tensor:
    """Returns a table with new rows, only those that are its `own`."""
    rows = rows.astype(table.dtype)
    if own is not None:
        own = own.reshape(-1, *[1] * (rows.ndim - 1))
        rows = jnp.where(own, rows, rows_at(table, ids))
    # Not by `add`, with which a sharded table would be all-reduced.
    return with_rows(table, ids, rows)


def of_two_rows(gradient: RowGradient) -> tuple[RowGradient, Tensor | None]:
    """Puts a row beside a gradient of one row; marks the original one.

    Other gradients are returned as they are, with `None`. XLA makes slices of
    gathers and scatters of one row, and then copies the tables.
    """
    ids, rows, num_rows, _ = gradient
    if len(ids) != 1 or num_rows == 1:
        return gradient, None
    pair = jnp.minimum(ids, num_rows - 2) + jnp.arange(2, dtype=ids.dtype)
    rows = jnp.broadcast_to(rows, (2, *rows.shape[1:]))
    return RowGradient(pair, rows, num_rows), pair == ids


def _sums(
    summands: Summands, num_rows: int, first: Tensor, count: int
) -> Tensor:
    """Returns some rows of the sums, those of whole trees."""
    leaves, positions, num_trees = summands
    per_tree, leaves_per_tree = (
        num_rows // num_trees,
        len(positions) // num_trees,
    )
    start = first // per_tree * leaves_per_tree
    size = count // per_tree * leaves_per_tree
    leaves = jax.lax.dynamic_slice_in_dim(leaves, start, size)
    positions = jax.lax.dynamic_slice_in_dim(positions, start, size) - first
    return sums_at(leaves, positions, count)
