"""A credit assignment whose gates are constants for the gradient."""

import keras
from keras import ops

from keras_treegate.core.saving import register
from keras_treegate.credit.base import Credit, Route
from keras_treegate.types import Tensor


@register
class Straight(Credit):
    """Treats the gates as constants: no gradient passes through the bits.

    The units that gate still learn, through their ordinary use: a hidden unit
    whose sign chooses a path is also multiplied by the weights on that path.
    This is the default, and what the reference results of most conditional
    models do. Units that only gate, those of `gate_inputs`, learn nothing: a
    step-aware optimizer warns of layers of which that is so. It is not the
    straight-through estimator, which passes the gradient on as if there were
    no sign.

        path = gate(stop_gradient(gate source))

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362, section 4.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     8, credit=keras_treegate.credit.Straight()
    ... )
    >>> layer.credit.foldable, layer.credit.trains_gates
    (True, False)
    """

    def route(
        self,
        gate: keras.layers.Layer,
        source: Tensor,
        training: bool,
        mask: Tensor | None = None,
    ) -> Route:
        """Returns the `Route` of a gate source (..., S)."""
        source = ops.stop_gradient(source)
        return Route(gate(source, training=training, mask=mask))
