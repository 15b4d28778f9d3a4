"""Exact counts of the visits of each leaf of a layer."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_treegate import backend
from keras_treegate.core.numerics import COUNTER_RADIX
from keras_treegate.core.rows import first_of_trees
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.tables.layout_errors import naming_layout_errors
from keras_treegate.types import Tensor, Variable


class LeafVisits:
    """The visits of every leaf of a layer's trees since the last reset.

    A count is `high * 2^30 + low`, two integers of 32 bits, because integers of
    64 bits are off in JAX by default and floats are not exact: it is right up
    to 2^61 visits of one leaf. A step reads and writes the counts of the leaves
    that its batch reached, and no others.

    low, high: (G * 2^D,) int32 variables, tree by tree; `None` where a layer
        does not count.
    resets: the number of times that the counts were set to zero.
    listener: called with the leaf codes of every call and its mask, if it is
        set.
    """

    NAMES = ("visits_low", "visits_high")

    def __init__(
        self, trees: TreeShape, low: Variable | None, high: Variable | None
    ) -> None:
        self.trees = trees
        self.low = low
        self.high = high
        self.resets = 0
        self.listener: Callable[[Tensor, Tensor | None], None] | None = None

    @classmethod
    def of_layer(
        cls, layer: keras.layers.Layer, trees: TreeShape, counted: bool
    ) -> "LeafVisits":
        """Makes the visits of a layer, counted in new weights of that layer."""

        def weight(name: str) -> Variable:
            shape = (trees.num_trees * 2**trees.depth,)
            with naming_layout_errors(f"{layer.name}/{name}", shape):
                return layer.add_weight(
                    name=name,
                    shape=shape,
                    dtype="int32",
                    initializer="zeros",
                    trainable=False,
                    autocast=False,
                )

        if not counted:
            return cls(trees, None, None)
        return cls(trees, *map(weight, cls.NAMES))

    def record(
        self, codes: Tensor, training: bool, mask: Tensor | None = None
    ) -> None:
        """Counts the leaf codes (..., G) of a batch, in training.

        Args:
            codes: of each example or time step.
            training: whether this is a training step.
            mask: booleans (...), false for what is not to be counted; `None`
                where everything is. Defaults to `None`.
        """
        if self.listener is not None:
            self.listener(codes, mask)
        if not training or self.low is None or self.high is None:
            return
        if not backend.can_assign(self.low, codes):
            raise ValueError(
                "`count_visits` must be `False` for a layer inside of what JAX "
                "traces apart, as the cell of a keras.layers.RNN, a scan, an "
                "inner jit or a vmap: counts cannot leave it. Received: "
                "count_visits=True. Make the layer with `count_visits=False`, "
                "or the RNN with `unroll=True`."
            )
        num_trees = self.trees.num_trees
        codes = ops.transpose(ops.reshape(codes, (-1, num_trees)))
        leaves = codes + first_of_trees(num_trees, 2**self.trees.depth)
        added = None
        if mask is not None:
            added = ops.cast(ops.reshape(mask, (-1,)), "int32")
            added = ops.tile(added, num_trees)
        backend.count(self.low, self.high, ops.reshape(leaves, (-1,)), added)

    def counts(self) -> np.ndarray:
        """Returns the counts (G, 2^D), int64."""
        self._check_counted()
        low, high = (
            np.asarray(ops.convert_to_numpy(variable), dtype="int64")
            for variable in self.variables
        )
        counts = high * COUNTER_RADIX + low
        return counts.reshape(self.trees.num_trees, -1)

    def assign(self, counts: np.ndarray) -> None:
        """Sets the counts to these, integers (G, 2^D)."""
        self._check_counted()
        high, low = np.divmod(counts.reshape(-1), COUNTER_RADIX)
        for variable, words in zip(self.variables, (low, high), strict=True):
            variable.assign(words.astype("int32"))

    def reset(self) -> None:
        """Sets all counts to zero."""
        self._check_counted()
        for variable in self.variables:
            variable.assign(ops.zeros_like(variable.value))
        self.resets += 1

    @property
    def variables(self) -> list[Variable]:
        """The low and the high words; none where a layer does not count."""
        return [word for word in (self.low, self.high) if word is not None]

    def _check_counted(self) -> None:
        if self.low is None:
            raise ValueError(
                "`count_visits` must be `True` for a layer to count the visits "
                "of its leaves. Received: count_visits=False. Make the layer "
                "with `count_visits=True`, or leave it out."
            )
