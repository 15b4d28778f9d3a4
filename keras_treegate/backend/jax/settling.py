"""Settlement under JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from keras_treegate.core import decay
from keras_treegate.types import Variable


def settle(table: Variable, clock: Variable, stamps: Variable) -> None:
    try:
        values = [variable.value for variable in (table, clock, stamps)]
    except TypeError:
        # Some variables have no value: those that `fit` has lent to a step, and
        # those of a first step that failed, whose own error must be seen.
        return
    rows, now, then = values
    if not isinstance(now, jax.core.Tracer) and not np.any(np.asarray(now)):
        return
    if len({isinstance(value, jax.core.Tracer) for value in values}) > 1:
        raise ValueError(
            "An optimizer must be given the clock and stamps of each table of "
            f"rows along with it. Received: {table.path!r}, "
            "whose rows owe weight decay, without them. Call `layer.settle()` "
            "before the step, or pass all of `model.trainable_variables`."
        )
    table.assign(decay.decayed(rows, decay.owed(now, then)))
    stamps.assign(jnp.zeros_like(then))
    clock.assign(jnp.zeros_like(now))


def before_native_steps(variable: Variable, settle: Callable[[], None]) -> None:
    pass  # JAX has no optimizers, and those of others write no variables
