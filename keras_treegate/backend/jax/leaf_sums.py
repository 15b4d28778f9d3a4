"""Leaf sums under JAX: the weights of whole paths, and their gradients."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from keras_treegate.backend.common import reference
from keras_treegate.backend.common.row_gradient import (
    RowGradient,
    Summands,
    key_of,
)
from keras_treegate.backend.jax.devices import may_be_split
from keras_treegate.backend.jax.row_gradients import recorded
from keras_treegate.backend.jax.rows import (
    CHUNK,
    decay_state,
    rows_at,
    steps,
    sums_at,
)
from keras_treegate.core import decay
from keras_treegate.core.rows import BatchRows, TableVariables
from keras_treegate.types import Tensor


def leaf_sums(levels: list[TableVariables], rows: BatchRows) -> Tensor:
    # Because each `value` is a read, each table is read once.
    nodes = [level.values.value for level in levels]
    states = [decay_state(level.clock, level.stamps) for level in levels]
    keys = tuple(key_of(level.values) for level in levels)
    return _leaf_sums(nodes, states, rows, keys)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _leaf_sums(
    nodes: list[Tensor],
    states: list[tuple[Tensor, Tensor]],
    rows: BatchRows,
    keys: tuple[int, ...],
) -> Tensor:
    return _sums(nodes, states, rows, may_be_split())


@partial(jax.jit, static_argnums=3)
def _sums(
    nodes: list[Tensor],
    states: list[tuple[Tensor, Tensor]],
    rows: BatchRows,
    is_split: bool,
) -> Tensor:
    # `is_split` is for the cache of `jit`, because `rows_at` depends on it.
    whole = rows.whole
    sums = None
    for table, (clock, stamps) in zip(nodes[:whole], states, strict=False):
        level = decay.decayed(table, decay.owed(clock, stamps))
        sums = level if sums is None else reference.with_children(sums, level)
    if whole == len(nodes):
        return sums
    leaves = rows.levels[-1].ids

    def step(first: Tensor, count: int, total: Tensor) -> Tensor:
        part = partial(
            jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=count
        )
        new = None
        if whole:
            positions = part(rows.levels[whole - 1].positions)
            new = rows_at(sums, positions, distinct=False)
        for number in range(whole, len(nodes)):
            # Takes the rows of the leaves' paths, because the distinct rows of
            # the level would be stored in between.
            ids = jnp.right_shift(part(leaves), _bits_below(nodes, number))
            clock, stamps = states[number]
            owed = decay.owed(clock, rows_at(stamps, ids, distinct=False))
            level = rows_at(nodes[number], ids, distinct=False)
            level = decay.decayed(level, owed)
            new = level if new is None else new + level
        return jax.lax.dynamic_update_slice_in_dim(total, new, first, 0)

    shape = nodes[0].shape[1:]
    total = jnp.zeros((len(leaves), *shape), nodes[0].dtype)
    return steps(step, len(leaves), CHUNK // math.prod(shape), total)


def _bits_below(nodes: list[Tensor], number: int) -> int:
    """Returns the bits of a path between a level and the leaves."""
    return (len(nodes[-1]) // len(nodes[number])).bit_length() - 1


def _leaf_sums_forward(
    nodes: list[Tensor],
    states: list[tuple[Tensor, Tensor]],
    rows: BatchRows,
    keys: tuple[int, ...],
) -> tuple[Tensor, tuple[list[tuple[Tensor, Tensor]], BatchRows]]:
    read = rows
    leaves = rows.levels[-1].ids
    if leaves is not None and leaves.shape[0] == 1:
        # Takes the one leaf twice, because XLA would read the table as a slice,
        # and not by a gather, and then copy it where it is written in the same
        # step.
        twice = jax.tree.map(lambda array: jnp.repeat(array, 2), rows.levels)
        read = rows._replace(levels=twice)
    sums = _sums(nodes, states, read, may_be_split())
    return (sums if read is rows else sums[:1]), (states, rows)


def _leaf_sums_backward(
    keys: tuple[int, ...],
    saved: tuple[list[tuple[Tensor, Tensor]], BatchRows],
    leaves: Tensor,
) -> tuple[list[Tensor], None, None]:
    states, rows = saved
    trees = len(rows.leaf_positions)
    sizes = [len(stamps) for _, stamps in states]
    gradients: list[Tensor] = [None] * len(keys)
    for number in range(rows.whole, len(keys)):
        ids, positions = rows.levels[number]
        level = RowGradient(ids, leaves, sizes[number])
        if positions is not None:
            level = level._replace(
                rows=sums_at(leaves, positions, len(ids)),
                summands=Summands(leaves, positions, trees),
            )
        gradients[number] = recorded(level, keys[number])
    sums = leaves
    for number in range(rows.whole - 1, -1, -1):
        positions = rows.levels[number].positions
        if positions is not None:
            sums = sums_at(sums, positions, sizes[number])
        sums = _sums_of_subtrees(sums, sizes[number])
        gradients[number] = sums
    return gradients, None, None


def _sums_of_subtrees(rows: Tensor, size: int) -> Tensor:
    """Returns sums (size, ...) of as many consecutive rows each.

    They are made in a loop, because otherwise XLA would make them anew for each
    slot of an optimizer and for each level above.
    """
    if len(rows) == size:
        return rows
    parts = rows.reshape(size, -1, *rows.shape[1:])

    def step(first: Tensor, count: int, sums: Tensor) -> Tensor:
        part = jax.lax.dynamic_slice_in_dim(parts, first, count)
        # Avoids `sum`, which XLA on CPU hands to a slower library.
        terms = [part[:, term] for term in range(part.shape[1])]
        while len(terms) > 1:
            terms = list(map(jnp.add, terms[::2], terms[1::2]))
        return jax.lax.dynamic_update_slice_in_dim(sums, terms[0], first, 0)

    sums = jnp.zeros((size, *rows.shape[1:]), rows.dtype)
    chunk = CHUNK // math.prod(parts.shape[1:])
    if may_be_split():  # a loop would want all rows on every device
        chunk = size
    return steps(step, size, chunk, sums)


_leaf_sums.defvjp(_leaf_sums_forward, _leaf_sums_backward)
