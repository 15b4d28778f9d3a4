"""Counts in two words of 32 bits under JAX."""

import jax.numpy as jnp

from keras_treegate.core.numerics import COUNTER_BITS, COUNTER_RADIX
from keras_treegate.types import Tensor, Variable


def count(
    low: Variable, high: Variable, ids: Tensor, added: Tensor | None
) -> None:
    mode = "promise_in_bounds"
    added = jnp.ones_like(ids) if added is None else added
    if ids.shape[0] == 1:  # see `updates.of_two_rows`
        ids, added = jnp.repeat(ids, 2), jnp.pad(added, (1, 0))
    sums = low.value.at[ids].add(added, mode=mode)
    if ids.shape[0] >= sums.shape[0]:  # no more than the batch itself
        low.assign(sums & (COUNTER_RADIX - 1))
        high.assign(high.value + (sums >> COUNTER_BITS))
        return
    # Because each write depends on the read before it, it is made in place.
    full, carried = sums[ids], high.value[ids]
    carried = carried + (full >> COUNTER_BITS)
    low.assign(sums.at[ids].set(full & (COUNTER_RADIX - 1), mode=mode))
    high.assign(high.value.at[ids].set(carried, mode=mode))
