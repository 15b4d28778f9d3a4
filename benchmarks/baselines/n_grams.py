"""Embeddings of hashed n-grams, added to the inputs of a network.

The idea of Engram, arXiv 2601.07372, at its simplest.
"""

from typing import Any

import keras

from keras_treegate import gates


@keras.saving.register_keras_serializable(package="keras_treegate.benchmarks")
class HashedNGrams(keras.layers.Layer):
    """Looks up a row for the hash of the last `order` tokens.

    A hash gate of one tree tells apart `2^bits` classes.

    Args:
        order: How many tokens.
        bits: Of the hash; the table has `2^bits` rows.
        width: Of a row.
        seed: Of the hash.
    """

    def __init__(
        self, order: int, bits: int, width: int, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sizes = {"order": order, "bits": bits, "width": width}
        self.seed = seed
        self.gate = gates.HashGate(order, seed=seed)
        self.gate.setup(1, bits)
        self.rows = keras.layers.Embedding(2**bits, width)

    def build(self, input_shape: tuple) -> None:
        """Makes the gate's multipliers and the table."""
        self.gate.build(input_shape)
        self.rows.build((*input_shape[:-1], 1))
        self.built = True

    def call(self, tokens: Any) -> Any:
        """Returns a row (B, width) for tokens (B, T)."""
        return keras.ops.squeeze(self.rows(self.gate(tokens)), axis=-2)

    def get_config(self) -> dict:
        """Returns the arguments."""
        return super().get_config() | self.sizes | {"seed": self.seed}
