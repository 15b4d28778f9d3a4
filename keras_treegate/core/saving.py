"""One name under which everything of this package is saved."""

import keras

from keras_treegate.types import Config

register = keras.saving.register_keras_serializable(package="keras_treegate")


def deserialized(config: Config) -> object:
    """Returns the object of a config, or `None` if it describes none."""
    if "class_name" not in config or "config" not in config:
        return None
    return keras.saving.deserialize_keras_object(config)
