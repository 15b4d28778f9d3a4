"""Credit assignment: how the units that gate learn from what they decide."""

from typing import Any

import keras

from keras_treegate.credit.straight import Straight as Straight

__all__ = ["Straight", "get"]

_BY_NAME = {"straight": Straight}


def get(identifier: Any) -> Straight:
    """Returns a credit assignment from its name, its config or itself.

    Args:
        identifier: A name (`"straight"`), a credit assignment object, or the
            dictionary that `keras.saving.serialize_keras_object` makes of one.

    Returns:
        A credit assignment object.

    Raises:
        ValueError: For an unknown name or any other object.

    Example:

    >>> import keras_treegate
    >>> type(keras_treegate.credit.get("straight")).__name__
    'Straight'
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if not isinstance(identifier, Straight):
        raise ValueError(
            "`credit` must be a credit assignment object or one of "
            f"{', '.join(map(repr, _BY_NAME))}. Received: "
            f"credit={identifier!r}. Leave it out for 'straight'."
        )
    return identifier
