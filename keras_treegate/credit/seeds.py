"""Seed generators in saved files, which Keras leaves out of them."""

from typing import Any

import numpy as np
from keras import ops

NAME = "seed_generator_state"


def save(store: Any, generator: Any) -> None:
    """Writes the state of a generator, the same on every backend."""
    state = ops.convert_to_numpy(generator.state.value).astype("int64")
    store[NAME] = state % 2**32


def load(store: Any, generator: Any) -> None:
    """Reads the state of a generator."""
    # Backends have integers of other kinds; this wraps where they are signed.
    state = np.asarray(store[NAME]).astype(generator.state.dtype)
    generator.state.assign(state)
