"""Gates that are constants for the gradient."""

from typing import Any, ClassVar

from keras import ops

from keras_treegate.core.saving import register
from keras_treegate.credit.route import Route


@register
class Straight:
    """Treats the gates as constants: no gradient passes through the bits.

    The units that gate still learn, through their ordinary use: a hidden unit
    whose sign chooses a path is also multiplied by the weights on that path.
    This is the default, and what the reference results of most conditional
    models do. Units that only gate, those of `gate_inputs`, learn nothing: a
    step-aware optimizer warns of layers of which that is so.

        path = gate(stop_gradient(gate source))

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362, section 4.

    Example:

    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(
    ...     8, credit=keras_treegate.credit.Straight()
    ... )
    """

    foldable = True
    trains_gates = False
    stored_variables: ClassVar[dict] = {}

    def route(
        self, gate: Any, source: Any, training: bool, mask: Any = None
    ) -> Route:
        """The `Route` of a gate source (..., S)."""
        source = ops.stop_gradient(source)
        return Route(gate(source, training=training, mask=mask))

    def multiply(self, forest: Any, x: Any, route: Route) -> Any:
        """Inputs (B, P), each times the kernel of its route: (B, Q)."""
        return forest.multiply(x, forest.flat(route.codes))

    def kernels(self, forest: Any, route: Route) -> Any:
        """The kernel (B, P, Q) of each example."""
        return forest.kernels(forest.flat(route.codes))

    def check_foldable(self) -> None:
        """Raises where the sum along a path is not the kernel of a leaf."""

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Straight":
        return cls(**config)
