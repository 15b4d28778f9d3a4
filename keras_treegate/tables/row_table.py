"""A table of rows, and the decay that they owe.

A level of a tree is such a table, and so are embeddings. A layer reads its
tables through a `RowTable`, and a step-aware optimizer finds it on the variable
of the rows: that is all the two know of each other. Any other optimizer must
find rows that owe nothing. It is not known beforehand which optimizer will make
the next step. But before an optimizer of Keras writes a variable, it reads the
variable's `overwrite_with_gradient`. There a table notices an optimizer that
does not know of its decay, and settles in that step.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Self, cast

import keras

from keras_treegate import backend
from keras_treegate.core.rows import TableVariables
from keras_treegate.tables.layout_errors import naming_layout_errors
from keras_treegate.types import Tensor, Variable


class _Asking(threading.local):
    """The step-aware optimizers that may be asking, counted in each thread."""

    step_aware = 0


_asking = _Asking()


@contextlib.contextmanager
def step_aware() -> Iterator[None]:
    """Makes a context in which tables do not settle when they are asked."""
    _asking.step_aware += 1
    try:
        yield
    finally:
        _asking.step_aware -= 1


class AskedVariable(keras.Variable):
    """A variable of a table, which the optimizers of Keras ask in each step.

    `add_weight` makes plain variables; they become such by their `__class__`.
    """

    table: "weakref.ref[RowTable]"
    row_table: "RowTable"  # of the rows only

    @property
    def overwrite_with_gradient(self) -> bool:
        """True where an optimizer assigns the gradient; settles the table."""
        table = self.table()
        if table is not None and not _asking.step_aware:
            table.settle_in_step()
        # Names the class, because `torch.compile` takes `super()` for something
        # else here. To mypy a property of a class is a function.
        return bool(
            keras.Variable.overwrite_with_gradient.fget(self)  # type: ignore[attr-defined]
        )

    @overwrite_with_gradient.setter
    def overwrite_with_gradient(self, value: bool) -> None:
        keras.Variable.overwrite_with_gradient.fset(  # type: ignore[attr-defined]
            self, value
        )


class RowTable:
    """The variables of one table of rows.

    values: (N, ...), the rows as they were last written, of any shape.
    clock, stamps: (2,) and (N, 2) float32, see `keras_treegate.core.decay`.
        Written by step-aware optimizers and by `settle`. Where an optimizer can
        write only trainable weights, they are trainable, with
        `overwrite_with_gradient` and zeros for a gradient, which is the value
        that `settle` gives them.
    listeners: the optimizers that look for gradients as rows.
    """

    def __init__(
        self, values: Variable, clock: Variable, stamps: Variable
    ) -> None:
        self.values = values
        self.clock = clock
        self.stamps = stamps
        self.listeners: weakref.WeakSet[keras.optimizers.Optimizer] = (
            weakref.WeakSet()
        )
        for variable in (values, clock, stamps):
            variable.__class__ = AskedVariable
            asked = cast(AskedVariable, variable)
            asked.table = weakref.ref(self)
            if variable is values:
                asked.row_table = self
        backend.before_native_steps(values, self.settle)

    @classmethod
    def of_layer(
        cls, layer: keras.layers.Layer, values: Variable, suffix: str = ""
    ) -> Self:
        """Makes a table of a layer's weight, with new weights for its decay.

        These are named "clock" and "stamps", with the suffix.
        """

        def state(name: str, shape: tuple[int, ...]) -> Variable:
            with naming_layout_errors(f"{layer.name}/{name}{suffix}", shape):
                return layer.add_weight(
                    name=name + suffix,
                    shape=shape,
                    dtype="float32",
                    initializer="zeros",
                    trainable=backend.DECAY_STATE_IS_TRAINABLE,
                    overwrite_with_gradient=backend.DECAY_STATE_IS_TRAINABLE,
                    autocast=False,
                )

        clock, stamps = state("clock", (2,)), (values.shape[0], 2)
        return cls(values, clock, state("stamps", stamps))

    @property
    def variables(self) -> TableVariables:
        """The variables, as a backend takes them."""
        as_rows = len(self.listeners) > 0
        return TableVariables(self.values, self.clock, self.stamps, as_rows)

    def read(self, ids: Tensor | None = None) -> Tensor:
        """Returns the rows `ids` (R,) with their decay; `None` for all.

        The rows are (R, ...), the ids distinct and ascending. The gradient for
        the table then is carried as rows, see `keras_treegate.backend`.
        """
        return backend.read_table(self.variables, ids)

    def read_owed(self, ids: Tensor | None = None) -> Tensor:
        """Returns the factors (R,) that the rows `ids` owe; `None` for all."""
        return backend.owed_decay(self.clock, self.stamps, ids)

    def settle(self) -> None:
        """Pays the decay into every row, and sets the clock back to zero."""
        backend.settle(self.values, self.clock, self.stamps)

    def settle_in_step(self) -> None:
        """Settles for an optimizer that does not know of the decay."""
        if self.clock.trainable and not self.values.trainable:
            raise ValueError(
                "A table of rows must be trained along with its clock and "
                f"stamps. Received: {self.values.path!r}, which is not "
                "trainable. Freeze the layer, `layer.trainable = False`, and "
                "not one of its variables."
            )
        self.settle()


def of(variable: Variable) -> RowTable | None:
    """Returns the table whose rows a variable holds, if it holds any."""
    return getattr(variable, "row_table", None)
