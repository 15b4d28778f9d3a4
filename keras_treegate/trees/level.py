"""One level of nodes and the decay that its rows owe.

A layer reads its levels through this, and an optimizer finds it on the variable
of the nodes: that is all the two know of each other.
"""

import weakref
from typing import Any

from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.core.rows import LevelTables


class TreeLevel:
    """The variables of one level of nodes.

    nodes: (N, W, Q), the rows as they were last written.
    clock, stamps: (2,) and (N, 2) float32, see `keras_treegate.core.decay`.
        Written by step-aware optimizers alone. Where an optimizer can write
        only trainable weights they are such, with `overwrite_with_gradient` and
        themselves for a gradient, so that a stock optimizer leaves them as they
        are.
    listeners: the optimizers that look for gradients as rows.
    """

    def __init__(self, nodes: Any, clock: Any, stamps: Any) -> None:
        self.nodes = nodes
        self.clock = clock
        self.stamps = stamps
        self.listeners: weakref.WeakSet = weakref.WeakSet()
        nodes.tree_level = self

    @classmethod
    def of_layer(cls, layer: Any, number: int, nodes: Any) -> "TreeLevel":
        """A level of a layer's nodes, with new weights for its decay."""

        def state(name: str, shape: tuple) -> Any:
            return layer.add_weight(
                name=f"{name}_{number}",
                shape=shape,
                dtype="float32",
                initializer="zeros",
                trainable=backend.DECAY_STATE_IS_TRAINABLE,
                overwrite_with_gradient=backend.DECAY_STATE_IS_TRAINABLE,
                autocast=False,
            )

        clock, stamps = state("clock", (2,)), (nodes.shape[0], 2)
        return cls(nodes, clock, state("stamps", stamps))

    @property
    def tables(self) -> LevelTables:
        """The variables, as a backend takes them."""
        as_rows = len(self.listeners) > 0
        return LevelTables(self.nodes, self.clock, self.stamps, as_rows)

    def read(self, ids: Any = None) -> Any:
        """Returns the rows `ids` (R,) with their decay; `None` for all.

        (R, W, Q). The ids are distinct and ascending. The gradient for the
        nodes then is carried as rows, see `keras_treegate.backend`.
        """
        return backend.read_level(self.tables, ids)

    def settle(self) -> None:
        """Pays the decay into every row, and sets the clock back to zero."""
        try:
            clock = self.clock.value
        except TypeError:
            # Under JAX a first step that failed leaves variables of no value.
            # Its error is to be seen, and not one of ours.
            return
        if not bool(ops.any(clock != 0)):
            return
        owed = decay.owed(self.clock.value, self.stamps.value)
        self.nodes.assign(decay.decayed(self.nodes.value, owed))
        self.stamps.assign(ops.zeros_like(self.stamps.value))
        self.clock.assign(ops.zeros_like(self.clock.value))


def of(variable: Any) -> TreeLevel | None:
    """The level whose nodes a variable holds, if it holds any."""
    return getattr(variable, "tree_level", None)
