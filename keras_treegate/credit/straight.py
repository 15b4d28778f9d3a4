"""Gates that are constants for the gradient."""

from typing import Any

from keras import ops

from keras_treegate.registration import register


@register
class Straight:
    """Treats the gates as constants: no gradient passes through the bits.

    The units that gate still learn, through their ordinary use: a hidden unit
    whose sign chooses a path is also multiplied by the weights on that path.
    This is the default, and what the reference results of most conditional
    models do.

        path = gate(stop_gradient(gate source))

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362, section 4.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     8, credit=keras_treegate.credit.Straight()
    ... )
    """

    def leaf_codes(self, gate: Any, source: Any, training: bool) -> Any:
        """The leaf codes (..., G) to use for a gate source (..., S)."""
        return gate(ops.stop_gradient(source), training=training)

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Straight":
        return cls(**config)
