"""Lookups of ids that may repeat, under JAX."""

import jax.numpy as jnp

from keras_treegate.backend.common import lookups
from keras_treegate.backend.jax.rows import compiled, rows_at
from keras_treegate.core.rows import rows_of_sorted_ids
from keras_treegate.types import Tensor


def spread_rows(rows: Tensor, positions: Tensor) -> Tensor:
    return rows_at(rows, positions, distinct=False)


def bounded_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor | None]:
    # Because a compiled function cannot raise.
    outside = (ids < 0) | (ids >= num_rows)
    return jnp.clip(ids, 0, num_rows - 1).astype("int32"), outside


def distinct_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    return lookups.distinct_ids(ids, num_rows, compiled(rows_of_sorted_ids))
