"""Functions that keep seed generators in files; Keras leaves them out."""

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.types import Store, Tensor

NAME = "seed_generator_state"


def check(generator: keras.random.SeedGenerator, tensor: Tensor) -> None:
    """Raises where the state of a generator cannot be kept.

    Args:
        generator: The `SeedGenerator`.
        tensor: A tensor that the draws are made for.
    """
    if not backend.can_assign(generator.state, tensor):
        raise ValueError(
            "`credit` must be 'straight' in training inside of what JAX traces "
            "apart, as the cell of a keras.layers.RNN, a scan, an inner jit, a "
            "vmap or a layer that is rematerialized as a whole: the state of "
            "its random numbers cannot leave it. "
            'Received: a credit that draws. Use `credit="straight"`, or make '
            "the RNN with `unroll=True`."
        )


def save(store: Store, generator: keras.random.SeedGenerator) -> None:
    """Writes the state of a generator, the same on every backend."""
    state = ops.convert_to_numpy(generator.state.value).astype("int64")
    store[NAME] = state % 2**32


def load(store: Store, generator: keras.random.SeedGenerator) -> None:
    """Reads the state of a generator."""
    # Converts, because backends differ in the dtype of the state; the values
    # wrap around where it is signed.
    state = np.asarray(store[NAME]).astype(generator.state.dtype)
    generator.state.assign(state)
