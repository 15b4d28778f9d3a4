"""Compiles functions under JAX, where that saves the tests time."""

import keras


def jit_on_jax(function):
    """Returns the function, under `jax.jit` if the backend is JAX.

    There every operation on every new shape is compiled by itself otherwise,
    which takes ten times as long as compiling all of them together.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)
