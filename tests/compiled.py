"""Functions compiled where that saves the tests time."""

import keras


def compiled(function):
    """The function as it is, but under `jax.jit` on JAX.

    There every operation on every new shape is compiled by itself otherwise,
    which takes ten times as long as compiling all of them together.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)
