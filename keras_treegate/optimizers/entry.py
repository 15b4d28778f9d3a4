"""What a step-aware optimizer keeps of each variable."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_treegate.trees import level as tree_level


class Slot(NamedTuple):
    """A kind of optimizer state that each variable has.

    decay: the factor by which a step with a zero gradient multiplies it;
        `None` where such a step leaves it as it is.
    per_row: one number for each row of a tree level, not one for each weight.
    """

    name: str
    decay: float | None = None
    initial: float = 0.0
    per_row: bool = False


class Step(NamedTuple):
    """What the rule of an optimizer is told of a step.

    number: int32 scalar, `iterations` counted from 1; what a user sets it to.
    learning_rate: scalar of the variable's dtype.
    count: int32 scalar, the steps that were taken, this one included.
    """

    number: Any
    learning_rate: Any
    count: Any


class Entry:
    """The state of one variable; opaque to Keras's tracking.

    Attributes:
        variable: The variable.
        level: The `TreeLevel` that it holds the nodes of, or `None`.
        decays: Whether weight decay applies to it.
        slots: Variables, one for each kind.
        last_step: Variable (R,) with the step, from 1 on, in which each row was
            last written; `None` where no slot owes anything for idle steps.
        gradient: The gradient in the current `apply`, if it is one of rows.
        kinds: The kinds of its slots.
    """

    def __init__(self, variable: Any, kinds: list[Slot], decays: bool) -> None:
        self.variable = variable
        self.level: Any = tree_level.of(variable)
        self.decays = decays
        self.slots: list = []
        self.last_step: Any = None
        self.gradient: Any = None
        written = getattr(variable, "overwrite_with_gradient", False)
        self.kinds = [] if written else kinds

    def add_variables(self, optimizer: Any) -> None:
        """Makes the slots, as variables of an optimizer."""
        rows = None if self.level is None else self.variable.shape[0]
        for kind in self.kinds:
            initializer = keras.initializers.Constant(kind.initial)
            if kind.per_row and rows is not None:
                slot = optimizer.add_variable(
                    shape=(rows, 1, 1),
                    initializer=initializer,
                    dtype=self.variable.dtype,
                    name=self._name(kind.name),
                )
            else:
                slot = optimizer.add_variable_from_reference(
                    self.variable, name=kind.name, initializer=initializer
                )
            self.slots.append(slot)
        if rows is not None and any(k.decay is not None for k in self.kinds):
            self.last_step = optimizer.add_variable(
                shape=(rows,),
                initializer="zeros",
                dtype="int32",
                name=self._name("last_step"),
            )

    @property
    def tables(self) -> list:
        """All that is kept of each row of a level, see `touched_rows`."""
        tables = [self.level.nodes, self.level.stamps, *self.slots]
        return tables + [self.last_step] * (self.last_step is not None)

    def is_untouched(self) -> bool:
        """Whether no gradient but zeros came; false where no slot tells."""
        return len(self.slots) > 0 and all(
            bool(ops.all(ops.convert_to_tensor(slot) == kind.initial))
            for slot, kind in zip(self.slots, self.kinds, strict=True)
        )

    def _name(self, name: str) -> str:
        return f"{self.variable.path.replace('/', '_')}_{name}"

    def caught_up(self, slots: list, count: Any, last_step: Any = None) -> list:
        """Returns slots (R, ...) after the steps that rows were idle."""
        return caught_up(self.kinds, slots, count, last_step)


def caught_up(
    kinds: list[Slot], slots: list, count: Any, last_step: Any = None
) -> list:
    """Returns slots (R, ...) of these kinds after the steps rows were idle.

    `count` is that of this step, `last_step` (R,) those of their last ones.
    """
    if last_step is None:
        return slots
    # Not below 0: weights of a later time may have been put back.
    idle = ops.maximum(count - last_step - 1, 0)
    found = []
    for kind, slot in zip(kinds, slots, strict=True):
        if kind.decay is not None:
            # decay^idle, faster than `ops.power`; a decay of 0 leaves 0.
            rate = math.log(max(kind.decay, 1e-300))
            factors = ops.exp(rate * ops.cast(idle, slot.dtype))
            slot = slot * factors[:, None, None]
        found.append(slot)
    return found
