"""One name under which everything of this package is saved."""

from typing import Any

import keras

register = keras.saving.register_keras_serializable(package="keras_treegate")


def deserialized(config: dict) -> Any:
    """Returns the object of a config, or `None` where it is of none."""
    if "class_name" not in config or "config" not in config:
        return None
    return keras.saving.deserialize_keras_object(config)
