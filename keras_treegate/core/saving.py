"""One name under which everything of this package is saved."""

import keras

register = keras.saving.register_keras_serializable(package="keras_treegate")
