"""Errors of variables that do not fit the layout given for them."""

import contextlib
from collections.abc import Iterator

import keras

from keras_treegate.types import Shape


@contextlib.contextmanager
def naming_layout_errors(name: str, shape: Shape) -> Iterator[None]:
    """Makes a context in which a variable is made, and says what to do.

    Keras and the frameworks do not name the variable whose shape does not fit
    the layout that a distribution has for its path.
    """
    try:
        yield
    except (IndexError, ValueError) as error:
        if keras.distribution.distribution() is None:
            raise
        raise ValueError(
            f"The layout of `{name}` must fit its shape, and divide it by the "
            f"devices of an axis. Received: shape={tuple(shape)}, of which the "
            f"distribution made: {error} Use "
            "`keras_treegate.distribution.layout_map`, which splits all state "
            "of a table alike, or write keys that match fewer paths."
        ) from error
