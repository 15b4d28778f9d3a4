"""Updates of rows under JAX: of all tables of a step together, in parts."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from keras_treegate.backend.common.row_gradient import RowGradient, Summands
from keras_treegate.backend.jax.rows import (
    CHUNK,
    PROMISES,
    rows_at,
    steps,
    sums_at,
)
from keras_treegate.types import Tensor, Variable


def outside_of_traces() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def apply_gradients(apply: Callable[..., None], *arguments: Any) -> None:
    apply(*arguments)


@contextlib.contextmanager
def updating_rows() -> Iterator[Callable[..., None]]:
    """Updates all tables of a step together.

    XLA on CPU runs loops one after the other, but the operations in a loop side
    by side.
    """
    updates: list[_Update] = []

    def update_rows(
        variables: list[Variable],
        gradient: Tensor | RowGradient,
        update: Callable[..., None],
    ) -> None:
        if isinstance(gradient, RowGradient):
            updates.append(_Update(variables, gradient, update))
            return
        values = [variable.value for variable in variables]
        update(values, gradient)
        _assign(variables, values)

    yield update_rows
    loops: dict[tuple[int, int], list[_Update]] = {}
    for update in updates:
        loops.setdefault((update.count, update.chunk), []).append(update)
    for together in loops.values():
        _update_together(together)


def _update_together(updates: list["_Update"]) -> None:
    """Makes updates that have equal numbers of rows in one loop."""

    def step(
        first: Tensor, count: int, tables: list[list[Tensor]]
    ) -> list[list[Tensor]]:
        return [
            update.updated(own, first, count)
            for update, own in zip(updates, tables, strict=True)
        ]

    tables = [[v.value for v in update.variables] for update in updates]
    tables = steps(step, updates[0].count, updates[0].chunk, tables)
    for update, values in zip(updates, tables, strict=True):
        _assign(update.variables, values)


def _assign(variables: list[Variable], values: list[Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.astype(variable.dtype))


class _RowsOf:
    """Rows of tables, by slices of the list of tables.

    They are gathered each time they are asked for, so that a gather has one
    use. XLA on CPU then makes one loop of it and its use, whose reads overlap;
    a gather by itself moves one row after the other, several times as slowly.
    """

    def __init__(
        self, tables: list[Tensor], ids: Tensor, own: Tensor | None
    ) -> None:
        self.tables, self.ids, self.own = list(tables), ids, own

    def __getitem__(self, place: slice) -> list[Tensor]:
        return [rows_at(table, self.ids) for table in self.tables[place]]

    def __setitem__(self, place: slice, new: list[Tensor]) -> None:
        self.tables[place] = [
            self._written(table, rows.astype(table.dtype))
            for table, rows in zip(self.tables[place], new, strict=True)
        ]

    def _written(self, table: Tensor, rows: Tensor) -> Tensor:
        if self.own is not None:
            own = self.own.reshape(-1, *[1] * (rows.ndim - 1))
            rows = jnp.where(own, rows, rows_at(table, self.ids))
        # Avoids `add`, with which a sharded table would be all-reduced.
        return table.at[self.ids].set(rows, **PROMISES)


class _Update:
    """An update of some rows of tables, a chunk at a time.

    Intermediate results of a chunk stay in cache, and take no separate memory
    for each table and level.
    """

    def __init__(
        self,
        variables: list[Variable],
        gradient: RowGradient,
        update: Callable[..., None],
    ) -> None:
        self.variables = variables
        self.gradient, self.own = of_two_rows(gradient)
        self.update = update
        ids, rows, _, summands = self.gradient
        self.count = len(ids)
        self.chunk = max(2, CHUNK // math.prod(rows.shape[1:]))
        if summands is not None:
            per_tree = max(1, self.count // summands.num_trees)
            self.chunk = per_tree * max(1, self.chunk // per_tree)

    def updated(
        self, tables: list[Tensor], first: Tensor, count: int
    ) -> list[Tensor]:
        """Returns the tables after the update of so many rows."""
        ids, rows, _, summands = self.gradient
        part = jax.lax.dynamic_slice_in_dim(ids, first, count)
        if summands is None:
            new = jax.lax.dynamic_slice_in_dim(rows, first, count)
        else:
            new = _sums(summands, len(ids), first, count)
        rows_of = _RowsOf(tables, part, self.own)
        self.update(rows_of, new)
        return rows_of.tables


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
    leaves, slots, num_trees = summands
    per_tree, leaves_per_tree = num_rows // num_trees, len(slots) // num_trees
    start = first // per_tree * leaves_per_tree
    size = count // per_tree * leaves_per_tree
    leaves = jax.lax.dynamic_slice_in_dim(leaves, start, size)
    slots = jax.lax.dynamic_slice_in_dim(slots, start, size) - first
    return sums_at(leaves, slots, count)
