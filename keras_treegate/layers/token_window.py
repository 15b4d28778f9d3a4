"""A layer that shows each place of a text the tokens before it."""

from typing import Any

import keras
from keras import ops

from keras_treegate.core import checks, tensor_checks
from keras_treegate.core.saving import register
from keras_treegate.types import Config, Shape, Tensor

# Stands for the tokens before the start of a text.
BEFORE_START = -1


@register
class TokenWindow(keras.layers.Layer):
    """Gives each place of a text its token and those before it.

    It makes what a `keras_treegate.gates.HashGate` reads, in models that see a
    whole text at once, such as a Transformer:

        windows[b, t, i] = tokens[b, t - length + 1 + i], or -1 before the start

    so that the newest token is the last. A mask of the tokens passes through.

    Args:
        length: Positive integer, the tokens of a window.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tokens (B, T), of an integer dtype; taken as integers of 32
            bits.

    Output shape:
        (B, T, length), int32.

    Raises:
        ValueError: For a `length` that is no such integer, and for tokens that
            are no integers of two axes.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> window = keras_treegate.layers.TokenWindow(3)
    >>> np.array(window(np.array([[5, 6, 7, 8]]))).tolist()
    [[[-1, -1, 5], [-1, 5, 6], [5, 6, 7], [6, 7, 8]]]
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        length = checks.integer("length", length, 1)
        super().__init__(autocast=False, **kwargs)
        self.length = length
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=2)
        self.built = True

    def __call__(
        self, inputs: Tensor, *args: object, **kwargs: object
    ) -> Tensor:
        tensor_checks.tensor("inputs", inputs)
        tensor_checks.integers("inputs", inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        tokens = ops.cast(inputs, "int32")
        before = self.length - 1
        padded = ops.pad(
            tokens, ((0, 0), (before, 0)), constant_values=BEFORE_START
        )
        places = ops.shape(tokens)[1]
        return ops.stack(
            [padded[:, i : i + places] for i in range(self.length)], axis=-1
        )

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape), dtype="int32"
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.length)

    def get_config(self) -> Config:
        return super().get_config() | {"length": self.length}
