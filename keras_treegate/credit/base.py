"""The base class of credit assignments, and the route they return."""

from typing import ClassVar, NamedTuple

import keras

from keras_treegate.core import tensor_checks
from keras_treegate.credit.scores import Claim
from keras_treegate.types import Config, Tensor, Variable


class Route(NamedTuple):
    """The paths of a batch, and what the layer needs to use them.

    Args:
        codes: (..., G) int32, the leaf codes.
        scales: (..., G, D), a factor for each node below the root; `None`
            where each node counts in full. Defaults to `None`.
        claim: The claim on the credit of a `ReinforceLoss`, which only
            `Reinforce` makes. Defaults to `None`.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> keras_treegate.credit.Route(np.array([[2]])).scales is None
    True
    """

    codes: Tensor
    scales: Tensor | None = None
    claim: Claim | None = None


class Credit:
    """Base of the credit assignments: how gates learn from what they decide.

    A `TreeGatedDense` calls `route` once in each forward pass, and multiplies
    its inputs with the kernels of the route that it gets. For one of your
    own, write `route`, say in `foldable` and `trains_gates` what holds, and
    register the class with `keras.saving.register_keras_serializable`. One
    with state (a seed generator, a moving mean) is a `keras.layers.Layer` as
    well: `class MyCredit(keras.layers.Layer, Credit)`.

    The gate of the layer offers `gate(source, training=, mask=)`, the leaf
    codes (..., G), and `gate.activations(source, training=, mask=)`, how far
    each gate unit is above its threshold (..., G, D).

    Attributes:
        foldable: Whether the outputs at inference are those of one kernel for
            each leaf, so that `keras_treegate.fold` can store it. Defaults to
            `True`.
        trains_gates: Whether a gradient reaches what the gates are read from.
            Defaults to `False`.
        needs_activations: Whether it calls `gate.activations`, so that gates
            without are refused when a layer is made. Defaults to `False`.

    Example:

    >>> import keras
    >>> from keras_treegate.credit import Credit, Route
    >>> @keras.saving.register_keras_serializable("example")
    ... class Frozen(Credit):
    ...     def route(self, gate, source, training, mask=None):
    ...         return Route(gate(keras.ops.stop_gradient(source)))
    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(8, credit=Frozen())
    """

    foldable: ClassVar[bool] = True
    trains_gates: ClassVar[bool] = False
    needs_activations: ClassVar[bool] = False

    def check_gate(self, gate: keras.layers.Layer) -> None:
        """Raises for a gate that this credit assignment cannot work with."""
        if self.needs_activations and not gate.has_activations:
            raise ValueError(
                "`credit` must be 'straight' for gates that have no "
                f"activations. Received: credit={type(self).__name__}, with a "
                f"{type(gate).__name__}. Leave `credit` out, or use a gate "
                "that defines `activations`, such as a `SignGate`."
            )

    def route(
        self,
        gate: keras.layers.Layer,
        source: Tensor,
        training: bool,
        mask: Tensor | None = None,
    ) -> Route:
        """Returns the route of each example.

        Args:
            gate: The gate of the layer.
            source: The gate source (..., S).
            training: Whether this is a training step.
            mask: Booleans (...), false for padding, which no moving mean may
                see; `None` where there is none. Defaults to `None`.

        Returns:
            A `Route`, with leaf codes (..., G).
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `route(gate, source, "
            "training, mask=None)`, which returns a "
            "`keras_treegate.credit.Route`."
        )

    def checked_route(
        self, route: object, gate: keras.layers.Layer, source: Tensor
    ) -> Route:
        """Returns a route, or raises where it does not fit the trees.

        Args:
            route: What `route` returned.
            gate: The gate of the layer.
            source: The gate source (..., S).
        """
        own, of_gate = type(self).__name__, type(gate).__name__
        if not isinstance(route, Route):
            raise ValueError(
                "`route` must return a `keras_treegate.credit.Route`. "
                f"Received: a value of type {type(route).__name__}, from the "
                f"credit {own}. Write `return Route(codes)`."
            )
        expected = (*tuple(source.shape)[:-1], gate.num_trees)
        made_by = f"the gate {of_gate} and the credit {own}"
        tensor_checks.codes_per_tree(route.codes, expected, made_by)
        return route

    @property
    def stored_variables(self) -> dict[str, Variable]:
        """The variables that a file holds, by name; none by default."""
        return {}

    def check_foldable(self) -> None:
        """Raises where one kernel for each leaf gives other outputs."""
        if not self.foldable:
            raise ValueError(
                "`credit` must be foldable for a table of leaves: the kernels "
                "must depend on the leaf alone. Received: "
                f"credit={type(self).__name__}, whose do not. Use the layer as "
                'it is, or train with `credit="straight"` or "reinforce".'
            )

    def get_config(self) -> Config:
        """Returns the arguments of the constructor, for saved files."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> "Credit":
        """Returns a credit assignment of these arguments."""
        return cls(**config)
